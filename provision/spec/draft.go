package spec

import (
	"bytes"
	_ "embed"
	"strconv"
	"strings"
	"text/template"

	"biplane.dev/biplane/internal/configfile"
)

// Draft is what a file cannot do without, for writing a first one with comments.
type Draft struct {
	Name, Account, Region string
	RoleARN, ExternalID   string
	Policy                Policy

	// A network is made of CIDR and Zones, unless VPC names one that is there.
	CIDR                          string
	Zones                         int
	VPC                           string
	PublicSubnets, PrivateSubnets []string

	Kubernetes      string
	ClusterEndpoint ClusterAddress
	Roles           WorkspaceRoles

	// ControlPlane is the gateway's address; "" installs nothing in the cluster.
	ControlPlane, TokenFile string
}

// CurrentKubernetes is the version that a draft has by itself.
const CurrentKubernetes = "1.34"

//go:embed draft.yaml.tmpl
var draft string

// Text is the file, or the refusal of it that Load would give.
func (d Draft) Text() ([]byte, error) {
	t, err := template.New("draft").Funcs(template.FuncMap{
		"quote": strconv.Quote,
		"list":  func(items []string) string { return "[" + strings.Join(items, ", ") + "]" },
	}).Parse(draft)
	if err != nil {
		panic("spec: the template of a file cannot be read: " + err.Error())
	}
	var text bytes.Buffer
	if err := t.Execute(&text, d); err != nil {
		return nil, err
	}
	dp := &DataPlane{}
	if err := configfile.Parse("the new file", text.Bytes(), configfile.Header{APIVersion: APIVersion, Kind: Kind}, dp); err != nil {
		return nil, err
	}
	dp.Defaults()
	return text.Bytes(), dp.validate()
}
