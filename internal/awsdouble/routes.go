package awsdouble

import (
	_ "embed"
	"net/http"
	"net/url"
	"strings"
)

//go:embed routes.tsv
var routesTSV string

// A route is how a REST service tells one operation.
type route struct {
	operation string
	method    string
	path      []string          // segments; "{Name}" takes one, "{Name+}" the rest
	query     map[string]string // keys that must be there; "" takes any value
	header    string            // a header that must be there, or ""
}

// routes are the REST services' operations, by signing name.
type routes map[string][]route

func readRoutes(tsv string) routes {
	all := routes{}
	for line := range strings.Lines(tsv) {
		f := strings.Split(strings.TrimRight(line, "\n"), "\t")
		if len(f) != 6 {
			continue // the comment on top
		}
		r := route{operation: f[1], method: f[2], path: strings.Split(strings.Trim(f[3], "/"), "/"), query: map[string]string{}, header: f[5]}
		for key := range strings.SplitSeq(f[4], "&") {
			if key, value, _ := strings.Cut(key, "="); key != "" {
				r.query[key] = value
			}
		}
		all[f[0]] = append(all[f[0]], r)
	}
	return all
}

// find returns the operation that a request asks for and the names in its path,
// decoded. Of several that fit, the one that asks for most is meant.
func (all routes) find(service, method, escapedPath string, query url.Values, header http.Header) (string, map[string]string, bool) {
	var best *route
	var labels map[string]string
	for i := range all[service] {
		r := &all[service][i]
		found, ok := r.match(method, escapedPath, query, header)
		if ok && (best == nil || r.weight() > best.weight()) {
			best, labels = r, found
		}
	}
	if best == nil || service == "s3" && all.ambiguous(best, query) {
		return "", nil, false
	}
	return best.operation, labels, true
}

// ambiguous says whether a query also has the key of another S3 operation.
// S3 servers differ in which of "?policy&tagging" they obey, so that one
// operation could be decided and another one performed.
func (all routes) ambiguous(chosen *route, query url.Values) bool {
	for _, r := range all["s3"] {
		for key := range r.query {
			switch key {
			case "id", "partNumber", "list-type", "select-type": // parameters, not operations
				continue
			}
			if _, mine := chosen.query[key]; !mine && query.Has(key) {
				return true
			}
		}
	}
	return false
}

func (r *route) weight() int {
	weight := 4 * len(r.query)
	if r.header != "" {
		weight += 4
	}
	for _, segment := range r.path {
		if !strings.HasPrefix(segment, "{") {
			weight++
		}
	}
	return weight
}

func (r *route) match(method, escapedPath string, query url.Values, header http.Header) (map[string]string, bool) {
	if method != r.method || r.header != "" && header.Get(r.header) == "" {
		return nil, false
	}
	for key, value := range r.query {
		if !query.Has(key) || value != "" && query.Get(key) != value {
			return nil, false
		}
	}
	labels := map[string]string{}
	rest := strings.TrimPrefix(escapedPath, "/")
	for i, segment := range r.path {
		greedy := strings.HasSuffix(segment, "+}")
		part := rest
		if !greedy {
			part, rest, _ = strings.Cut(rest, "/")
		}
		value, err := url.PathUnescape(part)
		if err != nil {
			return nil, false
		}
		if name, isLabel := strings.CutPrefix(segment, "{"); isLabel {
			if value == "" {
				return nil, false
			}
			labels[strings.TrimRight(name, "+}")] = value
		} else if value != segment {
			return nil, false
		}
		if greedy {
			return labels, i == len(r.path)-1
		}
	}
	return labels, rest == ""
}
