package roles

// Table returns who may do what, as it is published: one row for each service
// account, in its order. The caller owns it.
func Table() []ServiceAccount {
	platform := func(plane Plane, name, purpose string, metadata, fastRegistration Rights) ServiceAccount {
		return ServiceAccount{Plane: plane, Name: name, Kubernetes: name, Purpose: purpose,
			Metadata: metadata, FastRegistration: fastRegistration, kind: platform}
	}
	return []ServiceAccount{
		platform(ControlPlane, "flyteadmin", "signs URLs for the upload and download of code and data, and reads and writes none of it", Presign, Presign),
		platform(DataPlane, "clustersync-system", "keeps namespaces, service accounts and quotas as they should be", None, None),
		platform(DataPlane, "executor", "makes task pods, and lays their inputs and outputs ready", ReadWrite, ReadWrite),
		platform(DataPlane, "proxy-system", "shows what ran, and the data of it", Read, None),
		platform(DataPlane, "operator-system", "keeps the cluster healthy, with its state in the metadata bucket", ReadWrite, None),
		platform(DataPlane, "flytepropeller-system", "runs workflows, and keeps their data in the metadata bucket", ReadWrite, None),
		platform(DataPlane, "flytepropeller-webhook-system", "hands secrets to task pods", None, None),
		// The published name is that of the template from which each workspace namespace is made;
		// the account there which carries the role is the namespace's default one.
		{Plane: DataPlane, Name: "clusterresource-template", Kubernetes: "default", Purpose: "runs the tasks of users: reads their inputs, writes their outputs",
			Metadata: ReadWrite, FastRegistration: None, kind: tasks},
	}
}

// ServiceAccount is one row of the table.
type ServiceAccount struct {
	Name             string // in the table
	Plane            Plane
	Kubernetes       string // its name in its namespace
	Purpose          string
	Metadata         Rights
	FastRegistration Rights

	kind kind
}

// PerWorkspace reports whether there is one in each workspace namespace, and not
// one in the vendor's.
func (a ServiceAccount) PerWorkspace() bool { return a.kind == tasks }

// HasRights reports whether it may do anything, and so needs a role.
func (a ServiceAccount) HasRights() bool { return a.Metadata != None || a.FastRegistration != None }

// Plane is where an account lives.
type Plane string

// The planes.
const (
	ControlPlane Plane = "control plane"
	DataPlane    Plane = "data plane"
)

// kind says which of the two published role names an account is under.
type kind string

const (
	platform kind = "platform" // adminflyterole
	tasks    kind = "tasks"    // userflyterole
)

// Bucket is one of the two.
type Bucket string

// The buckets.
const (
	Metadata         Bucket = "metadata"
	FastRegistration Bucket = "fast registration"
)

// Rights are what an account may do in a bucket.
type Rights string

// The rights, the least first; Presign is not more than Read in every respect.
const (
	None      Rights = "none"
	Presign   Rights = "presign" // get and put, by a URL that was signed for one object and a short time
	Read      Rights = "read"
	ReadWrite Rights = "read and write"
)

// Right is rights in one bucket.
type Right struct {
	Bucket Bucket
	Rights Rights
}

// unionOf is the most that any of the accounts may do in each bucket. Read and write
// includes the others, and in each published group somebody has it where anybody has
// anything; a test says so.
func unionOf(accounts []ServiceAccount) []Right {
	most := []Right{{Metadata, None}, {FastRegistration, None}}
	for _, a := range accounts {
		for i, r := range []Rights{a.Metadata, a.FastRegistration} {
			if rank(r) > rank(most[i].Rights) {
				most[i].Rights = r
			}
		}
	}
	return most
}

func rank(r Rights) int {
	return map[Rights]int{None: 0, Presign: 1, Read: 2, ReadWrite: 3}[r]
}
