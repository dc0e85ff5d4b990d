package iampolicy

import "testing"

func TestParseARN(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		text string
		want ARN
		ok   bool
	}{
		"splits six fields":                      {"arn:aws:ec2:us-east-1:123456789012:vpc/v", ARN{"aws", "ec2", "us-east-1", "123456789012", "vpc/v"}, true},
		"leaves colons in the resource":          {"arn:aws:logs:r:1:log-group:/aws/x:*", ARN{"aws", "logs", "r", "1", "log-group:/aws/x:*"}, true},
		"takes empty fields":                     {"arn:aws:s3:::b/k", ARN{Partition: "aws", Service: "s3", Resource: "b/k"}, true},
		"leaves colons in a variable":            {"arn:aws:iam::${aws:PrincipalAccount}:role/x", ARN{"aws", "iam", "", "${aws:PrincipalAccount}", "role/x"}, true},
		"leaves colons in a placeholder":         {"arn:aws:kms:${AWS::Region}:${AWS::AccountID}:key/*", ARN{"aws", "kms", "${AWS::Region}", "${AWS::AccountID}", "key/*"}, true},
		"takes an open variable for text":        {"arn:aws:s3::${aws:b", ARN{Partition: "aws", Service: "s3", Account: "${aws", Resource: "b"}, true},
		"refuses five fields":                    {"arn:aws:s3::b", ARN{}, false},
		"refuses another beginning":              {"urn:aws:s3:::b", ARN{}, false},
		"refuses a star":                         {"*", ARN{}, false},
		"refuses a colon short inside variables": {"arn:aws:s3:${a:b}:c", ARN{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, ok := ParseARN(c.text)
			if ok != c.ok || got != c.want {
				t.Errorf("got %+v, %v, want %+v, %v", got, ok, c.want, c.ok)
			}
			if ok && got.String() != c.text {
				t.Errorf("got %s, want %s", got, c.text)
			}
		})
	}
}
