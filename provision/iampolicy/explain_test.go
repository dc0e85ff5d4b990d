package iampolicy

import (
	"reflect"
	"strings"
	"testing"
)

func TestExplain(t *testing.T) {
	t.Parallel()
	identity := func(statements ...string) Policies { return Policies{Identity: []*Document{doc(t, statements...)}} }
	get := func(c Context) Request {
		return Request{Principal: aUser, Action: "s3:GetObject", Resource: objectARN, Context: c}
	}
	type want struct {
		statements []int
		missing    Part
		elements   []string
		reasons    []string // of the first near miss, pieces
	}
	for name, c := range map[string]struct {
		policies Policies
		request  Request
		want     want
	}{
		"names every statement that allows": {
			identity(allowPut, allowGet, allowAll), get(nil),
			want{statements: []int{1, 2}},
		},
		"names the statement that denies, and what it overrules": {
			identity(allowGet, denyGet), get(nil),
			want{statements: []int{1}, elements: []string{"Effect"}, reasons: []string{"allows s3:GetObject", "statement 1 of test", "Deny always wins"}},
		},
		"says that the external ID is absent": {
			identity(`{"Effect":"Allow","Action":"s3:GetObject","Resource":"*","Condition":{"StringEquals":{"sts:ExternalId":"abc"}}}`), get(nil),
			want{missing: IdentityPart, elements: []string{"Condition.StringEquals.sts:ExternalId"}, reasons: []string{`needs sts:ExternalId = "abc"; the request has none`}},
		},
		"says both values": {
			identity(`{"Effect":"Allow","Action":"s3:GetObject","Resource":"*","Condition":{"StringEquals":{"sts:ExternalId":["abc","old"]}}}`), get(Context{"sts:externalid": {"xyz"}}),
			want{missing: IdentityPart, elements: []string{"Condition.StringEquals.sts:ExternalId"}, reasons: []string{`needs sts:ExternalId = "abc" or "old"; the request has "xyz"`}},
		},
		"puts the fewest faults first and leaves other actions out": {
			identity(
				allowPut,
				`{"Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:::other/*","Condition":{"Bool":{"aws:SecureTransport":"true"}}}`,
				`{"Effect":"Allow","Action":"s3:Get*","Resource":["arn:aws:s3:::bucket","arn:aws:s3:::x/y"]}`,
				`{"Effect":"Allow","Action":"ec2:*","Resource":"*"}`,
			), get(nil),
			want{
				missing: IdentityPart, elements: []string{"Resource", "Resource"},
				reasons: []string{`needs a resource like "arn:aws:s3:::bucket" (or one other); the request has "arn:aws:s3:::bucket/key"`},
			},
		},
		"shows other actions of the service where nothing is about the action": {
			identity(allowPut, `{"Effect":"Allow","Action":"ec2:*","Resource":"*"}`), get(nil),
			want{missing: IdentityPart, elements: []string{"Action"}, reasons: []string{"needs the action s3:PutObject; the request is for s3:GetObject"}},
		},
		"says that a call has no resource": {
			identity(`{"Effect":"Allow","Action":"s3:*","Resource":"arn:aws:s3:::*"}`), Request{Principal: aUser, Action: "s3:ListAllMyBuckets", Resource: "*"},
			want{missing: IdentityPart, elements: []string{"Resource"}, reasons: []string{`no resource in particular, which only "*" matches`}},
		},
		"fills in variables": {
			identity(`{"Effect":"Allow","Action":"s3:*","Resource":"arn:aws:s3:::bucket/${aws:username}"}`), get(Context{"aws:username": {"ann"}}),
			want{missing: IdentityPart, elements: []string{"Resource"}, reasons: []string{`here "arn:aws:s3:::bucket/ann"`}},
		},
		"says that a variable has no value": {
			identity(`{"Effect":"Allow","Action":"s3:*","Resource":"arn:aws:s3:::bucket/${aws:username}"}`), get(nil),
			want{missing: IdentityPart, elements: []string{"Resource"}, reasons: []string{"no value for the variable"}},
		},
		"says who is named": {
			Policies{Resource: bucketPolicy(t, "Allow", aws(userARN))}, Request{Principal: nobody, Action: "s3:GetObject", Resource: objectARN},
			want{missing: ResourcePart, elements: []string{"Principal"}, reasons: []string{userARN, "the caller is anonymous"}},
		},
		"names the boundary that does not allow": {
			Policies{Identity: []*Document{doc(t, allowGet)}, Boundary: doc(t, allowPut)}, get(nil),
			want{missing: BoundaryPart, elements: []string{"Action"}, reasons: []string{"needs the action s3:PutObject; the request is for s3:GetObject"}},
		},
		"names every part that had to allow": {
			Policies{Identity: []*Document{doc(t, allowGet)}, Boundary: doc(t, allowAll), SCP: [][]*Document{{doc(t, allowAll)}}}, get(nil),
			want{statements: []int{0, 0, 0}},
		},
		"names the resource policy alone where it is enough": {
			Policies{Identity: []*Document{doc(t, allowPut)}, Boundary: doc(t, allowAll), Resource: bucketPolicy(t, "Allow", aws(userARN))}, get(nil),
			want{statements: []int{0}},
		},
		"says nothing of other services": {
			identity(`{"Effect":"Allow","Action":"ec2:*","Resource":"*"}`), get(nil),
			want{missing: IdentityPart},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			decide(t, c.policies, &c.request)
			e, err := Compile(c.policies)
			if err != nil {
				t.Fatal(err)
			}
			x := e.Explain(&c.request)
			got := want{missing: x.MissingPart}
			for _, s := range x.Statements {
				got.statements = append(got.statements, s.Index)
			}
			for _, m := range x.NearMisses {
				got.elements = append(got.elements, m.Element)
			}
			got.reasons = c.want.reasons
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
			for _, piece := range c.want.reasons {
				if !strings.Contains(x.NearMisses[0].Reason, piece) {
					t.Errorf("got reason %q, want it to say %q", x.NearMisses[0].Reason, piece)
				}
			}
		})
	}
}

func TestExplainIsBounded(t *testing.T) {
	t.Parallel()
	statements := make([]string, 40)
	for i := range statements {
		statements[i] = allowPut
	}
	e, err := Compile(Policies{Identity: []*Document{doc(t, statements...)}})
	if err != nil {
		t.Fatal(err)
	}
	x := e.Explain(&Request{Principal: aUser, Action: "s3:GetObject", Resource: objectARN})
	if len(x.NearMisses) != maxNearMisses {
		t.Errorf("got %d near misses, want %d", len(x.NearMisses), maxNearMisses)
	}
}
