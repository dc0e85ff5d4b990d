package template

import (
	"fmt"
	"slices"
	"strings"

	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/provision/access"
	"biplane.dev/biplane/provision/vendor"
)

// standIn is a place for which a set is made, to have its names turned back into
// CloudFormation's. No other text of the set has one of them in it.
type standIn struct {
	partition, region, account, vendorAccount, roleName, previousExternalID, externalID string
}

// standIns choose two places that share no name: one of China and one of elsewhere,
// both with the longest names, so that what fits there fits everywhere. choice takes
// others of equal worth.
func standIns(v *vendor.Profile, choice int) (elsewhere, inChina standIn, err error) {
	text := strings.Join([]string{v.Product, v.ControlPlaneRole, v.Path, v.PolicyName, v.StackName, v.TagPrefix, v.Prefix, v.CompatPrefix, v.EndpointPrefix,
		v.ProxyLogGroup, v.Repository, v.QueuePrefix, v.AdminRole, v.UserRole, v.Namespace}, "\n")
	taken := choice
	unlike := func(candidates ...string) string {
		for i := range candidates {
			if name := candidates[(choice+i)%len(candidates)]; !strings.Contains(text, name) {
				return name
			}
		}
		err = usererr.New(usererr.Invalid, "no template can be made, because a name of the vendor profile has %s in it", candidates[0]).
			WithHint("give the vendor profile another name")
		return candidates[0]
	}
	number := func() string { // twelve digits, each time others
		var numbers []string
		for range 10 {
			taken += 7
			numbers = append(numbers, fmt.Sprintf("%012d", 900_000_000_000+int64(taken)*1_234_567))
		}
		return unlike(numbers...)
	}
	name := func(length int) string {
		number := number()
		return strings.Repeat("x", length-len(number)) + number
	}
	place := func(partition string, regions ...string) standIn {
		return standIn{
			partition: partition, region: unlike(regions...), account: number(), vendorAccount: number(),
			roleName: name(roleNameLimit), previousExternalID: name(24), externalID: name(24),
		}
	}
	elsewhere = place("aws-us-gov", "us-gov-west-1", "us-gov-east-1")
	inChina = place("aws-cn", "cn-northwest-1", "cn-north-1")
	return elsewhere, inChina, err
}

// everywhere are the resources of o's set for every place, and the logical ids of its
// roles. They are made for two places. Whatever is the same text once the names of
// either are turned back is the same everywhere; a name that were left over, or
// turned back where it is another's text, would differ. What China has of its own may
// differ, and nothing else.
func everywhere(o access.Options) (object, []string, error) { return everywhereBy(o, 0) }

func everywhereBy(o access.Options, choice int) (object, []string, error) {
	elsewhere, inChina, err := standIns(o.Vendor, choice)
	if err != nil {
		return nil, nil, err
	}
	first, roles, err := elsewhere.resources(o)
	if err != nil {
		return nil, nil, err
	}
	second, _, err := inChina.resources(o)
	if err != nil {
		return nil, nil, err
	}
	both, err := merge(first, second)
	if err != nil {
		return nil, nil, fmt.Errorf("making a template of what is granted in %s and %s: %w", elsewhere.region, inChina.region, err)
	}
	return intrinsic(both).(object), roles, nil
}

// resources are those of a set for the place, with its names turned back.
func (s standIn) resources(o access.Options) (any, []string, error) {
	names := *o.Vendor
	names.RoleName = s.roleName
	names.Accounts = map[string]string{s.partition: s.vendorAccount}
	set, err := access.Generate(access.Options{
		Profile: o.Profile, Account: s.account, Region: s.region, Vendor: &names,
		ExternalID: s.externalID, PreviousExternalID: s.previousExternalID,
		PrivateEndpoint: o.PrivateEndpoint, DeletePermissions: o.DeletePermissions,
	})
	if err != nil {
		return nil, nil, err
	}
	all, roles, err := resources(set, &names)
	if err != nil {
		return nil, nil, err
	}
	vendorAccount := "${VendorAccount}"
	if oneVendorAccount(o.Vendor) {
		vendorAccount = o.Vendor.Accounts["aws"]
	}
	back := strings.NewReplacer(
		"${", "${!", // a variable of IAM's own, which CloudFormation has to leave
		"arn:"+s.partition+":", "arn:${AWS::Partition}:",
		s.region, "${AWS::Region}",
		s.account, "${AWS::AccountId}",
		s.vendorAccount, vendorAccount,
		s.roleName, "${"+RoleNameParameter+"}",
		s.externalID, "${"+ExternalIDParameter+"}",
		s.previousExternalID, "${"+PreviousExternalIDParameter+"}",
	)
	return each(all, func(word string) any { return text(back.Replace(word)) }), roles, nil
}

// text is what Fn::Sub substitutes in.
type text string

// each is value with every string but keys and names of CloudFormation's changed.
func each(value any, change func(string) any) any {
	switch v := value.(type) {
	case string:
		return change(v)
	case list:
		changed := make(list, len(v))
		for i, item := range v {
			changed[i] = each(item, change)
		}
		return changed
	case object:
		if len(v) == 1 && v[0].Key == "Ref" {
			return v
		}
		changed := make(object, len(v))
		for i, m := range v {
			changed[i] = member{Key: m.Key, Value: each(m.Value, change)}
		}
		return changed
	}
	return value
}

// What China has of its own: the end of services' names.
const (
	suffix        = ".amazonaws.com"
	suffixInChina = ".amazonaws.com.cn"
)

// merge is what both are, with CloudFormation's words for what only China has.
func merge(elsewhere, inChina any) (any, error) {
	differ := fmt.Errorf("%v and %v differ", elsewhere, inChina)
	if short(elsewhere, inChina) {
		return object{{Key: "Fn::If", Value: list{china, inChina, elsewhere}}}, nil
	}
	switch e := elsewhere.(type) {
	case text:
		c, ok := inChina.(text)
		switch {
		case e == c:
			return e, nil
		case ok && text(strings.ReplaceAll(string(c), suffixInChina, suffix)) == e:
			return text(strings.ReplaceAll(string(c), suffixInChina, ".${AWS::URLSuffix}")), nil
		}
		return nil, differ
	case list:
		c, ok := inChina.(list)
		if !ok || len(e) != len(c) {
			return nil, differ
		}
		both := make(list, len(e))
		for i := range e {
			var err error
			if both[i], err = merge(e[i], c[i]); err != nil {
				return nil, err
			}
		}
		return both, nil
	case object:
		c, ok := inChina.(object)
		if !ok || len(e) != len(c) {
			return nil, differ
		}
		both := make(object, len(e))
		for i := range e {
			if e[i].Key != c[i].Key {
				return nil, differ
			}
			value, err := merge(e[i].Value, c[i].Value)
			if err != nil {
				return nil, fmt.Errorf("%v: %w", e[i].Key, err)
			}
			both[i] = member{Key: e[i].Key, Value: value}
		}
		return both, nil
	}
	if elsewhere != inChina {
		return nil, differ
	}
	return elsewhere, nil
}

// short reports whether elsewhere is the list of China without the second names of
// services; one alone is no list.
func short(elsewhere, inChina any) bool {
	c, ok := inChina.(list)
	if !ok {
		return false
	}
	e, ok := elsewhere.(list)
	if !ok {
		e = list{elsewhere}
	}
	without := slices.DeleteFunc(slices.Clone(c), func(item any) bool {
		word, ok := item.(text)
		return ok && strings.HasSuffix(string(word), suffixInChina)
	})
	return len(without) < len(c) && slices.EqualFunc(e, without, func(a, b any) bool {
		word, ok := a.(text)
		return ok && word == b
	})
}

// intrinsic writes texts as CloudFormation has them: as they are, as a reference or
// as a substitution.
func intrinsic(value any) any {
	switch v := value.(type) {
	case text:
		return v.intrinsic()
	case list:
		if slices.Equal(v, list{text("${" + PreviousExternalIDParameter + "}"), text("${" + ExternalIDParameter + "}")}) {
			return object{{Key: "Fn::If", Value: list{rotating, list{ref(PreviousExternalIDParameter), ref(ExternalIDParameter)}, ref(ExternalIDParameter)}}}
		}
		changed := make(list, len(v))
		for i, item := range v {
			changed[i] = intrinsic(item)
		}
		return changed
	case object:
		changed := make(object, len(v))
		for i, m := range v {
			changed[i] = member{Key: m.Key, Value: intrinsic(m.Value)}
		}
		return changed
	}
	return value
}

func (t text) intrinsic() any {
	literal := strings.ReplaceAll(string(t), "${!", "\x00")
	switch {
	case !strings.Contains(literal, "${"):
		return strings.ReplaceAll(literal, "\x00", "${")
	case strings.LastIndex(literal, "${") == 0 && strings.IndexByte(literal, '}') == len(literal)-1:
		return ref(literal[2 : len(literal)-1])
	case !strings.Contains(literal, "${VendorAccount}"):
		return object{{Key: "Fn::Sub", Value: string(t)}}
	}
	account := object{{Key: "Fn::FindInMap", Value: list{"Vendor", ref("AWS::Partition"), "Account"}}}
	return object{{Key: "Fn::Sub", Value: list{string(t), object{{Key: "VendorAccount", Value: account}}}}}
}
