{{- define "r2-exporter.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "r2-exporter.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "r2-exporter.selectorLabels" -}}
app.kubernetes.io/name: {{ include "r2-exporter.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "r2-exporter.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "r2-exporter.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "r2-exporter.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "r2-exporter.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "r2-exporter.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "r2-exporter.scheme" -}}
{{- if and .Values.web.secretName .Values.web.tls }}https{{ else }}http{{ end -}}
{{- end -}}

{{/* A kubelet's question to one of the exporter's own pages. */}}
{{- define "r2-exporter.httpGet" -}}
httpGet: {path: {{ .path }}, port: http, scheme: {{ include "r2-exporter.scheme" .root | upper }}}
periodSeconds: 10
timeoutSeconds: 5
{{- end -}}

{{/* A Deployment or, where several exporters divide the targets, a StatefulSet: its pods have numbers. */}}
{{- define "r2-exporter.kind" -}}
{{- if gt (int .Values.shards) 1 }}StatefulSet{{ else }}Deployment{{ end -}}
{{- end -}}

{{/* What a history's volume must be, by the values of persistence. */}}
{{- define "r2-exporter.claim" -}}
accessModes:
  {{- toYaml .accessModes | nindent 2 }}
{{- with .storageClassName }}
storageClassName: {{ . }}
{{- end }}
resources:
  requests: {storage: {{ .size }}}
{{- end -}}

{{/* Settings that would lose data or cost a multiple without saying so. */}}
{{- define "r2-exporter.check" -}}
{{- if gt (int .Values.shards) 1 -}}
{{- if gt (int .Values.replicas) 1 -}}
{{- fail "shards: each has one pod; leave replicas at 1" -}}
{{- end -}}
{{- if .Values.persistence.existingClaim -}}
{{- fail "shards: each has a history of its own; leave persistence.existingClaim empty" -}}
{{- end -}}
{{- end -}}
{{- if gt (int .Values.replicas) 1 -}}
{{- if .Values.persistence.enabled -}}
{{- fail "replicas: the history's file has one writer; set persistence.enabled to false, or replicas to 1 (docs/scaling.md)" -}}
{{- end -}}
{{- $probe := default dict .Values.config.probe -}}
{{- if and (not .Values.existingConfigMap) (ne (toString $probe.enabled) "false") -}}
{{- fail "replicas: each would probe every target on its interval; set config.probe.enabled to false and scrape /probe, or replicas to 1 (docs/scaling.md)" -}}
{{- end -}}
{{- end -}}
{{- if and (not .Values.existingConfigMap) (not .Values.config.targets) -}}
{{- fail "config.targets is empty: name a bucket to probe, such as --set config.targets[0].name=media (README.md has an example)" -}}
{{- end -}}
{{- end -}}
