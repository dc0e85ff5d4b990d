package awsdouble

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"biplane.dev/biplane/provision/iampolicy"
)

// requestTags returns the tags that a call gives, whichever way its service
// writes them: a list of keys and values, a map, or XML.
func requestTags(params *node) (map[string]string, bool) {
	tags := map[string]string{}
	for _, n := range params.children {
		switch strings.ToLower(n.name) {
		case "tags", "tag", "taglist", "tagset":
			collectTags(n, tags)
		}
	}
	return tags, len(tags) > 0
}

// removedTags returns the keys of the tags that a call takes away.
func removedTags(params *node) []string {
	var keys []string
	for _, n := range params.children {
		switch strings.ToLower(n.name) {
		case "tagkeys", "tagkey", "tagkeylist":
			if n.value != "" {
				keys = append(keys, n.value)
			}
			for _, c := range n.children {
				keys = append(keys, c.value)
			}
		}
	}
	return keys
}

func collectTags(n *node, tags map[string]string) {
	key := cmp.Or(n.get("Key"), n.get("key"), n.get("TagKey"))
	if key != nil {
		value := cmp.Or(n.get("Value"), n.get("value"), n.get("TagValue"))
		tags[key.value] = ""
		if value != nil {
			tags[key.value] = value.value
		}
		return
	}
	for _, c := range n.children {
		switch {
		case len(c.children) > 0:
			collectTags(c, tags)
		case !isNumber(c.name): // a map: the names are the keys
			tags[c.name] = c.value
		}
	}
}

// setTags gives the condition keys of a request's tags: prefix + key for each,
// and aws:TagKeys.
func setTags(keys iampolicy.Context, prefix string, tags map[string]string) {
	for key, value := range tags {
		keys.Set(prefix+key, value)
	}
	keys.Set("aws:TagKeys", slices.Sorted(maps.Keys(tags))...)
}
