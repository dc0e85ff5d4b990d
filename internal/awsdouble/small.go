package awsdouble

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"biplane.dev/biplane/internal/awsdouble/eks"
	"biplane.dev/biplane/internal/awsdouble/typical"
)

// logs performs a decided call of CloudWatch Logs. moto takes a key when a group is
// made, and has no call to give it one later.
func (d *Double) logs(ctx context.Context, c *call) (*http.Response, error) {
	if key := c.params.one("kmsKeyId"); key != "" {
		ok, err := d.world.Key(ctx, c.where(), key)
		if err != nil {
			return nil, err
		}
		if !ok {
			return nil, &refusal{"InvalidParameterException", "The specified KMS key does not exist, is not enabled or is not symmetric: " + key, http.StatusBadRequest}
		}
	}
	switch c.Operation {
	case "PutRetentionPolicy":
		if days, err := strconv.Atoi(c.params.one("retentionInDays")); err != nil || !slices.Contains(retentions, days) {
			return nil, &refusal{"InvalidParameterException", "1 validation error detected: Value '" + c.params.one("retentionInDays") + "' at 'retentionInDays' failed to satisfy constraint: Member must satisfy enum value set: " + fmt.Sprint(retentions), http.StatusBadRequest}
		}
	case "AssociateKmsKey", "DisassociateKmsKey":
		name := c.params.one("logGroupName")
		groups, err := d.world.ask(ctx, c, want{service: "logs", operation: "DescribeLogGroups", target: "Logs_20140328", json: map[string]any{"logGroupNamePrefix": name}})
		if err != nil {
			return nil, err
		}
		for _, group := range groups.at("logGroups.*") {
			if group.one("logGroupName") == name {
				d.network.setLogKey(c.place(), name, c.params.one("kmsKeyId"))
				return inJSON(map[string]any{}), nil
			}
		}
		return nil, &refusal{"ResourceNotFoundException", "The specified log group does not exist.", http.StatusBadRequest}
	case "DeleteLogGroup", "CreateLogGroup":
		answer, err := d.forward(ctx, c)
		if err == nil && answer.StatusCode < 300 {
			d.network.forgetLogKey(c.place(), c.params.one("logGroupName"))
		}
		return answer, err
	case "DescribeLogGroups":
		answer, err := d.forward(ctx, c)
		if err != nil {
			return nil, err
		}
		return editJSON(answer, func(root map[string]any) error {
			for _, group := range list(root["logGroups"]) {
				name, _ := group["logGroupName"].(string)
				if key, changed := d.network.logKey(c.place(), name); changed {
					delete(group, "kmsKeyId")
					if key != "" {
						group["kmsKeyId"] = key
					}
				}
			}
			return nil
		})
	}
	return d.forward(ctx, c)
}

// retentions are the days for which logs can be kept (PutRetentionPolicy).
var retentions = []int{1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653}

// sqs performs a decided call of SQS. moto makes a queue anew at once that was deleted
// a moment ago.
func (d *Double) sqs(ctx context.Context, c *call) (*http.Response, error) {
	n := d.network
	switch c.Operation {
	case "CreateQueue":
		n.lock.Lock()
		gone, deleted := n.queues[queue{c.place(), c.params.one("QueueName")}]
		n.lock.Unlock()
		if deleted && n.clock.Now().Before(gone.Add(typical.RecreateQueue)) {
			return nil, &refusal{"AWS.SimpleQueueService.QueueDeletedRecently", "You must wait 60 seconds after deleting a queue before you can create another with the same name.", http.StatusBadRequest}
		}
	case "DeleteQueue":
		answer, err := d.forward(ctx, c)
		if err == nil && answer.StatusCode < 300 {
			n.lock.Lock()
			n.queues[queue{c.place(), base(c.params.one("QueueUrl"))}] = n.clock.Now()
			n.lock.Unlock()
		}
		return answer, err
	}
	return d.forward(ctx, c)
}

type queue struct {
	at   place
	name string
}

func (n *network) setLogKey(at place, group, key string) {
	n.lock.Lock()
	defer n.lock.Unlock()
	n.logKeys[logGroup{at, group}] = key
}

func (n *network) forgetLogKey(at place, group string) {
	n.lock.Lock()
	defer n.lock.Unlock()
	delete(n.logKeys, logGroup{at, group})
}

func (n *network) logKey(at place, group string) (key string, changed bool) {
	n.lock.Lock()
	defer n.lock.Unlock()
	key, changed = n.logKeys[logGroup{at, group}]
	return key, changed
}

type logGroup struct {
	at   place
	name string
}

// nodeImage is the parameter that has EKS's image for a version of Kubernetes
// (Amazon EKS User Guide, Retrieve recommended Amazon Linux AMI IDs).
var nodeImage = regexp.MustCompile(`^/aws/service/eks/optimized-ami/([0-9.]+)/amazon-linux-2023/(x86_64|arm64)/standard/recommended/(image_id|release_version)$`)

// ssm performs a decided call of Systems Manager. moto does not have the parameters
// of EKS's images; the id is that of an image that moto has.
func (d *Double) ssm(ctx context.Context, c *call) (*http.Response, error) {
	found := nodeImage.FindStringSubmatch(c.params.one("Name"))
	if c.Operation != "GetParameter" || found == nil {
		return d.forward(ctx, c)
	}
	release := eks.Release(found[1])
	if release == "" {
		return nil, &refusal{"ParameterNotFound", "Parameter " + found[0] + " not found.", http.StatusBadRequest}
	}
	value := release
	if found[3] == "image_id" {
		images, err := d.network.do(ctx, c.place(), "DescribeImages", "Owner.1", "amazon", "Filter.1.Name", "architecture", "Filter.1.Value.1", found[2], "Filter.2.Name", "root-device-type", "Filter.2.Value.1", "ebs")
		if err != nil {
			return nil, err
		}
		for _, image := range images.items("imagesSet") {
			if strings.HasPrefix(image.one("imageId"), "ami-") && !strings.EqualFold(image.one("platform"), "windows") {
				value = image.one("imageId")
				break
			}
		}
		if value == release {
			return nil, fmt.Errorf("moto has no image for %s", found[2])
		}
	}
	return inJSON(map[string]any{"Parameter": map[string]any{"Name": found[0], "Type": "String", "Value": value, "Version": 1, "DataType": "text",
		"ARN": "arn:" + c.Partition + ":ssm:" + c.Region + "::parameter" + found[0]}}), nil
}
