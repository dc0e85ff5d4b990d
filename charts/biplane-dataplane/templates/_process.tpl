{{- /* Names and labels. The processes, their Services and Deployments have the same name. */ -}}

{{- define "biplane.processes" -}}
{{- /* name: service account */ -}}
operator: operator-system
clustersync: clustersync-system
executor: executor
proxy: proxy-system
{{- end }}

{{- define "biplane.selector" -}}
app.kubernetes.io/name: biplane-dataplane
app.kubernetes.io/component: {{ .name }}
{{- end }}

{{- define "biplane.labels" -}}
app.kubernetes.io/name: biplane-dataplane
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: biplane
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "biplane.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}
