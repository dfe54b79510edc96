{{/* Names */}}

{{- define "nextmv-exporter.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "nextmv-exporter.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "nextmv-exporter.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride -}}
{{- end -}}

{{- define "nextmv-exporter.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "nextmv-exporter.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* Labels and annotations */}}

{{- define "nextmv-exporter.selectorLabels" -}}
app.kubernetes.io/name: {{ include "nextmv-exporter.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "nextmv-exporter.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "nextmv-exporter.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/component: metrics
app.kubernetes.io/part-of: {{ include "nextmv-exporter.name" . }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ tpl (toYaml .) $ }}
{{- end }}
{{- end -}}

{{/*
The metadata of a resource. Takes a dict of: root, and optionally suffix, namespace, labels, annotations.
*/}}
{{- define "nextmv-exporter.metadata" -}}
name: {{ include "nextmv-exporter.fullname" .root }}{{ .suffix }}
namespace: {{ default (include "nextmv-exporter.namespace" .root) .namespace }}
labels:
  {{- include "nextmv-exporter.labels" .root | nindent 2 }}
  {{- with .labels }}
  {{- tpl (toYaml .) $.root | nindent 2 }}
  {{- end }}
{{- with merge (dict) (.annotations | default dict) .root.Values.commonAnnotations }}
annotations:
  {{- tpl (toYaml .) $.root | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Images */}}

{{- define "nextmv-exporter.image" -}}
{{- with default .Values.image.registry .Values.global.imageRegistry }}{{ . }}/{{ end -}}
{{- .Values.image.repository -}}
{{- if .Values.image.digest }}@{{ .Values.image.digest }}{{ else }}:{{ default .Chart.AppVersion .Values.image.tag }}{{ end -}}
{{- end -}}

{{- define "nextmv-exporter.imagePullSecrets" -}}
{{- with concat .Values.global.imagePullSecrets .Values.imagePullSecrets }}
imagePullSecrets:
{{- range . }}
  - name: {{ kindIs "map" . | ternary . (dict "name" .) | dig "name" "" }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Credentials: which file is mounted where, and from which Secret. */}}

{{- define "nextmv-exporter.files" -}}
{{- $own := include "nextmv-exporter.fullname" . -}}
{{- if or .Values.nextmv.apiKey .Values.nextmv.existingSecret }}
- name: api-key
  directory: /etc/nextmv-exporter/key
  file: api-key
  flag: --nextmv.api-key-file
  secret: {{ tpl (default $own .Values.nextmv.existingSecret) . | quote }}
  key: {{ empty .Values.nextmv.existingSecret | ternary "api-key" .Values.nextmv.existingSecretKey }}
{{- end }}
{{- if or .Values.nextmv.configFile .Values.nextmv.existingConfigSecret }}
- name: nextmv-config
  directory: /etc/nextmv-exporter/nextmv
  file: config.yaml
  flag: --nextmv.config-file
  secret: {{ tpl (default $own .Values.nextmv.existingConfigSecret) . | quote }}
  key: {{ empty .Values.nextmv.existingConfigSecret | ternary "config.yaml" .Values.nextmv.existingConfigSecretKey }}
{{- end }}
{{- if or .Values.webConfig.content .Values.webConfig.existingSecret }}
- name: web-config
  directory: /etc/nextmv-exporter/web
  file: web-config.yml
  flag: --web.config.file
  secret: {{ tpl (default $own .Values.webConfig.existingSecret) . | quote }}
  key: {{ empty .Values.webConfig.existingSecret | ternary "web-config.yml" .Values.webConfig.existingSecretKey }}
{{- end }}
{{- end -}}

{{- define "nextmv-exporter.secretData" -}}
{{- with .Values.nextmv.apiKey }}
api-key: {{ . | b64enc }}
{{- end }}
{{- with .Values.nextmv.configFile }}
config.yaml: {{ . | b64enc }}
{{- end }}
{{- with .Values.webConfig.content }}
web-config.yml: {{ toYaml . | b64enc }}
{{- end }}
{{- end -}}

{{/* What webConfig makes of the exporter's port */}}

{{- define "nextmv-exporter.scheme" -}}
{{- if or .Values.webConfig.tls .Values.webConfig.content.tls_server_config }}https{{ else }}http{{ end -}}
{{- end -}}

{{/* Whether the metrics are "open" or need a "password". */}}
{{- define "nextmv-exporter.protection" -}}
{{- if or .Values.webConfig.basicAuth .Values.webConfig.content.basic_auth_users }}password{{ else }}open{{ end -}}
{{- end -}}

{{- define "nextmv-exporter.url" -}}
{{- printf "%s://%s.%s.svc:%v"
      (include "nextmv-exporter.scheme" .)
      (include "nextmv-exporter.fullname" .) (include "nextmv-exporter.namespace" .) .Values.service.port -}}
{{- end -}}

{{/* The command line */}}

{{- define "nextmv-exporter.args" -}}
- --web.listen-address=:{{ .Values.containerPort }}
- --web.telemetry-path={{ .Values.web.telemetryPath }}
- --log.level={{ .Values.log.level }}
- --log.format={{ .Values.log.format }}
{{- if .Values.demo }}
- --demo
{{- end }}
{{- range include "nextmv-exporter.files" . | fromYamlArray }}
- {{ .flag }}={{ .directory }}/{{ .file }}
{{- end }}
{{- range .Values.nextmv.profiles }}
- {{ printf "--nextmv.profile=%s" . | quote }}
{{- end }}
{{- range $flag, $value := dict
      "--nextmv.endpoint" .Values.nextmv.endpoint
      "--nextmv.max-response-bytes" .Values.nextmv.maxResponseBytes
      "--nextmv.run-lookback" .Values.nextmv.runLookback
      "--nextmv.source" .Values.nextmv.source
      "--nextmv.timeout" .Values.nextmv.timeout
      "--queue.max-groups" (.Values.queue.maxGroups | default "" | toString)
      "--queue.wait-buckets" (join "," .Values.queue.waitBuckets)
      "--queue.zero-retention" .Values.queue.zeroRetention
      "--web.external-url" .Values.web.externalUrl
      "--web.timeout-offset" .Values.web.timeoutOffset }}
{{- if $value }}
- {{ $flag }}={{ $value }}
{{- end }}
{{- end }}
{{- range .Values.extraArgs }}
- {{ tpl . $ | quote }}
{{- end }}
{{- end -}}

{{/* A probe, with the scheme that webConfig asks for. Takes a dict of: root, probe. */}}
{{- define "nextmv-exporter.probe" -}}
{{- $probe := deepCopy .probe -}}
{{- if $probe.httpGet -}}
{{- $_ := merge $probe.httpGet (dict "scheme" (include "nextmv-exporter.scheme" .root | upper)) -}}
{{- end -}}
{{- toYaml $probe -}}
{{- end -}}

{{/* What ServiceMonitor and PodMonitor say about their one endpoint. Takes a dict of: root, monitor. */}}
{{- define "nextmv-exporter.endpoint" -}}
port: http
path: {{ .root.Values.web.telemetryPath }}
scheme: {{ include "nextmv-exporter.scheme" .root }}
honorLabels: {{ .monitor.honorLabels }}
{{- with .monitor.interval }}
interval: {{ . }}
{{- end }}
{{- with .monitor.scrapeTimeout }}
scrapeTimeout: {{ . }}
{{- end }}
{{- with .monitor.params }}
params:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .monitor.proxyUrl }}
proxyUrl: {{ . }}
{{- end }}
{{- include "nextmv-exporter.scrapeSecurity" . }}
{{- include "nextmv-exporter.relabelling" . }}
{{- end -}}

{{/* How Prometheus proves itself to the exporter. Takes a dict of: root, monitor. */}}
{{- define "nextmv-exporter.scrapeSecurity" -}}
{{- with .monitor.tlsConfig }}
tlsConfig:
  {{- tpl (toYaml .) $.root | nindent 2 }}
{{- end }}
{{- with .monitor.basicAuth }}
basicAuth:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .monitor.authorization }}
authorization:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Takes a dict of: root, monitor. */}}
{{- define "nextmv-exporter.relabelling" -}}
{{- with .monitor.relabelings }}
relabelings:
  {{- tpl (toYaml .) $.root | nindent 2 }}
{{- end }}
{{- with .monitor.metricRelabelings }}
metricRelabelings:
  {{- tpl (toYaml .) $.root | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Values that contradict each other, or that say too little to run on. */}}
{{- define "nextmv-exporter.validate" -}}
{{- $nextmv := .Values.nextmv -}}
{{- $given := list -}}
{{- range list "apiKey" "existingSecret" "configFile" "existingConfigSecret" -}}
{{- if get $nextmv . }}{{ $given = append $given (printf "nextmv.%s" .) }}{{ end -}}
{{- end -}}
{{- if and .Values.demo $given -}}
{{- fail (printf "demo: true monitors a simulated account and needs no credentials: remove %s, or demo" (join ", " $given)) -}}
{{- end -}}
{{- if gt (len $given) 1 -}}
{{- fail (printf "the accounts to monitor come from one place: keep one of %s" (join ", " $given)) -}}
{{- end -}}
{{- if not (or .Values.demo $given .Values.extraEnv .Values.extraEnvFrom .Values.extraVolumeMounts) -}}
{{- fail "which Nextmv account? Set nextmv.existingSecret (or apiKey, existingConfigSecret, configFile), or demo: true to try the chart without one" -}}
{{- end -}}
{{- if and .Values.webConfig.content .Values.webConfig.existingSecret -}}
{{- fail "the web configuration comes from one place: keep one of webConfig.content, webConfig.existingSecret" -}}
{{- end -}}
{{- if and .Values.podDisruptionBudget.enabled (not (kindIs "invalid" .Values.podDisruptionBudget.minAvailable)) (not (kindIs "invalid" .Values.podDisruptionBudget.maxUnavailable)) -}}
{{- fail "a PodDisruptionBudget takes one of podDisruptionBudget.minAvailable, podDisruptionBudget.maxUnavailable" -}}
{{- end -}}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) -}}
{{- fail "httpRoute.parentRefs: name the Gateway that the route attaches to" -}}
{{- end -}}
{{- end -}}
