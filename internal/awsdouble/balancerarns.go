package awsdouble

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// moto has "app" in the ARN of every load balancer and listener, whatever it is; a
// network load balancer's has "net" in AWS, and policies go by it. So what moto gets is
// rewritten, and what it answers.
var balancerARN = regexp.MustCompile(`:(loadbalancer|listener|listener-rule)/app/([^/<"]+/[0-9a-f]+)`)

// forMoto is a parameter as moto knows it.
func forMoto(value string) string {
	for _, kind := range []string{"loadbalancer", "listener", "listener-rule"} {
		value = strings.ReplaceAll(value, ":"+kind+"/net/", ":"+kind+"/app/")
	}
	return value
}

func formForMoto(form url.Values) url.Values {
	out := url.Values{}
	for key, values := range form {
		for _, value := range values {
			out.Add(key, forMoto(value))
		}
	}
	return out
}

// namesBalancers reports whether the answers to a call have such ARNs.
func namesBalancers(c *call) bool {
	return c.Service == "elasticloadbalancing" || c.Service == "ec2" && strings.Contains(c.Operation, "VpcEndpointService")
}

// fromMotoBalancers puts the right ARNs into an answer of moto's.
func (d *Double) fromMotoBalancers(c *call, answer *http.Response) (*http.Response, error) {
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("reading moto's answer to %s: %w", c.Operation, err)
	}
	n := d.network
	n.lock.Lock()
	defer n.lock.Unlock()
	if c.Operation == "CreateLoadBalancer" && c.params.one("Type") == "network" && answer.StatusCode < 300 {
		for _, found := range balancerARN.FindAllSubmatch(text, -1) {
			n.networkBalancers[string(found[2])] = true
		}
	}
	text = balancerARN.ReplaceAllFunc(text, func(arn []byte) []byte {
		if !n.networkBalancers[string(balancerARN.FindSubmatch(arn)[2])] {
			return arn
		}
		return bytes.Replace(arn, []byte("/app/"), []byte("/net/"), 1)
	})
	answer.Body, answer.ContentLength = io.NopCloser(bytes.NewReader(text)), int64(len(text))
	answer.Header.Set("Content-Length", strconv.Itoa(len(text)))
	return answer, nil
}
