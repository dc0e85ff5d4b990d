package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Workspace is one domain of one project. The operator writes the spec, as the
// control plane says; clustersync makes the namespace and writes the status.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=ws,categories=biplane
// +kubebuilder:printcolumn:name=Project,type=string,JSONPath=`.spec.project`
// +kubebuilder:printcolumn:name=Domain,type=string,JSONPath=`.spec.domain`
// +kubebuilder:printcolumn:name=Suspended,type=boolean,JSONPath=`.spec.suspended`
// +kubebuilder:printcolumn:name=Ready,type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name=Reason,type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
type Workspace struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   WorkspaceSpec   `json:"spec"`
	Status WorkspaceStatus `json:"status,omitempty"`
}

// WorkspaceSpec is what the control plane says of it. The object's name is that
// of its namespace.
type WorkspaceSpec struct {
	Organization string `json:"organization"`
	Project      string `json:"project"`
	Domain       string `json:"domain"`
	// Suspended keeps everything and lets no new pod start.
	Suspended bool `json:"suspended,omitempty"`
}

// Reasons of the condition Ready by which a workspace has no namespace until a
// person has done something.
const (
	ReasonInvalidName      = "InvalidName"      // it cannot have one of its own
	ReasonForeignNamespace = "ForeignNamespace" // it is somebody else's
)

// WorkspaceStatus is what became of it.
type WorkspaceStatus struct {
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// Conditions: Ready, with reason and message when it is not.
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// WorkspaceList is a list of Workspace.
// +kubebuilder:object:root=true
type WorkspaceList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Workspace `json:"items"`
}
