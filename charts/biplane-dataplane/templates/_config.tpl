{{- define "biplane.config" -}}
{{- $v := .Values -}}
apiVersion: biplane.dev/v1alpha1
kind: DataPlaneConfig
namespace: {{ .Release.Namespace }}
controlPlane:
  gateway: {{ required "controlPlane.gateway is needed: host:port of the control plane's tunnel gateway" $v.controlPlane.gateway | quote }}
  cluster: {{ required "controlPlane.cluster is needed: the name that 'biplane cluster add' was given" $v.controlPlane.cluster | quote }}
  {{- with $v.controlPlane.ca }}
  ca: |
    {{- trim . | nindent 4 }}
  {{- end }}
storage:
  region: {{ required "storage.region is needed: that of the buckets" $v.storage.region | quote }}
  metadataBucket: {{ required "storage.metadataBucket is needed: where runs keep their inputs and outputs" $v.storage.metadataBucket | quote }}
  fastRegistrationBucket: {{ required "storage.fastRegistrationBucket is needed: where clients put their code" $v.storage.fastRegistrationBucket | quote }}
  endpoint: {{ $v.storage.endpoint | quote }}
  stsEndpoint: {{ $v.storage.stsEndpoint | quote }}
  clientEndpoint: {{ $v.storage.clientEndpoint | quote }}
  uploadRoleARN: {{ $v.roles.upload | quote }}
  keepLogs: {{ $v.storage.keepLogs }}
operator:
  {{- include "biplane.config.process" $v.operator | nindent 2 }}
executor:
  {{- include "biplane.config.process" $v.executor | nindent 2 }}
  workers: {{ int $v.executor.workers }}
  defaultCPU: {{ $v.executor.defaultCPU | quote }}
  defaultMemory: {{ $v.executor.defaultMemory | quote }}
  systemRetries: {{ int $v.executor.systemRetries }}
  keepFinished: {{ $v.executor.keepFinished }}
  imagePullGrace: {{ $v.executor.imagePullGrace }}
  {{- with $v.executor.taskEnv }}
  env: {{ toJson . }}
  {{- end }}
  {{- with $v.executor.interruptibleNodeSelector }}
  interruptibleNodeSelector: {{ toJson . }}
  {{- end }}
  {{- with $v.executor.interruptibleTolerations }}
  interruptibleTolerations: {{ toJson . }}
  {{- end }}
proxy:
  {{- include "biplane.config.process" $v.proxy | nindent 2 }}
  {{- with $v.proxy.origins }}
  origins: {{ toJson . }}
  {{- end }}
clustersync:
  {{- include "biplane.config.process" $v.clustersync | nindent 2 }}
  taskRoleARN: {{ $v.roles.task | quote }}
  pullSecret: {{ $v.clustersync.pullSecret | quote }}
  {{- if $v.clustersync.templates }}
  templates: /etc/biplane/templates
  {{- end }}
  {{- with $v.clustersync.values }}
  values: {{ toJson . }}
  {{- end }}
log:
  level: {{ $v.log.level }}
  format: {{ $v.log.format }}
{{- end }}

{{- define "biplane.config.process" -}}
listen: {{ printf "%s:%d" .listenAddress (int .port) | quote }}
endpoint: {{ .endpoint | quote }}
{{- end }}
