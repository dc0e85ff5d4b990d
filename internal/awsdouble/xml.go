package awsdouble

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
)

// maxAnswer bounds what moto answers and is changed here: far above what a page of
// it has.
const maxAnswer = 32 << 20

// namespaces are those of the services whose answers are changed or given here.
var namespaces = map[string]string{
	"ec2":                  "http://ec2.amazonaws.com/doc/2016-11-15/",
	"route53":              "https://route53.amazonaws.com/doc/2013-04-01/",
	"elasticloadbalancing": "http://elasticloadbalancing.amazonaws.com/doc/2015-12-01/",
}

// leaf makes a node with a value, branch one with children.
func leaf(name, value string) *node               { return &node{name: name, value: value} }
func branch(name string, children ...*node) *node { return &node{name: name, children: children} }

// set gives the child of that name a value, making it if need be.
func (n *node) set(name, value string) { n.child(name).value = value }

// keep drops the children of which the function says no.
func (n *node) keep(is func(*node) bool) {
	if n != nil {
		n.children = slices.DeleteFunc(n.children, func(c *node) bool { return !is(c) })
	}
}

// items are the members of a list.
func (n *node) items(list string) []*node { return n.at(list + ".item") }

func (n *node) write(b *bytes.Buffer) {
	b.WriteString("<" + n.name + ">")
	b.WriteString(escape(n.value))
	for _, c := range n.children {
		c.write(b)
	}
	b.WriteString("</" + n.name + ">")
}

// inXML is an answer of the Query protocols.
func inXML(c *call, root *node) *http.Response {
	var b bytes.Buffer
	b.WriteString(xml.Header + "<" + c.Operation + `Response xmlns="` + namespaces[c.Service] + `">`)
	for _, child := range root.children {
		child.write(&b)
	}
	b.WriteString("</" + c.Operation + "Response>")
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"text/xml;charset=UTF-8"}},
		Body: io.NopCloser(bytes.NewReader(b.Bytes())), ContentLength: int64(b.Len())}
}

// done is EC2's answer to what has nothing to say.
func done(c *call) *http.Response {
	return inXML(c, branch("", leaf("requestId", newRequestID()), leaf("return", "true")))
}

// edit changes an answer of moto's that went well. Others stay as they are.
func edit(c *call, answer *http.Response, change func(root *node) error) (*http.Response, error) {
	if answer.StatusCode >= 300 {
		return answer, nil
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("reading moto's answer to %s: %w", c.Operation, err)
	}
	root, err := fromMoto(text)
	if err != nil {
		return nil, fmt.Errorf("reading moto's answer to %s: %w", c.Operation, err)
	}
	if err := change(root); err != nil {
		return nil, err
	}
	changed := inXML(c, root)
	answer.Body, answer.ContentLength = changed.Body, changed.ContentLength
	answer.Header.Set("Content-Length", strconv.FormatInt(changed.ContentLength, 10))
	return answer, nil
}
