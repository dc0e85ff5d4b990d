package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// TaskTemplate is the definition that actions run, kept once in each workspace
// and named by its digest. It never changes.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:shortName=tt,categories=biplane
// +kubebuilder:printcolumn:name=Task,type=string,JSONPath=`.taskName`
// +kubebuilder:printcolumn:name=Version,type=string,JSONPath=`.taskVersion`
// +kubebuilder:printcolumn:name=Age,type=date,JSONPath=`.metadata.creationTimestamp`
type TaskTemplate struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	TaskName    string `json:"taskName,omitempty"`
	TaskVersion string `json:"taskVersion,omitempty"`
	// Spec is flyteidl2.task.TaskSpec, binary, marshalled deterministically; the
	// object's name is its SHA-256.
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="a template is named by its contents and does not change"
	Spec []byte `json:"spec"`
}

// TaskTemplateList is a list of TaskTemplate.
// +kubebuilder:object:root=true
type TaskTemplateList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []TaskTemplate `json:"items"`
}
