{{/* The one endpoint of a ServiceMonitor or PodMonitor. Takes a dict of: root, monitor. */}}
{{- define "nextmv-exporter.endpoint" -}}
port: http
path: {{ .root.Values.web.telemetryPath | quote }}
scheme: {{ include "nextmv-exporter.scheme" .root }}
honorLabels: {{ .monitor.honorLabels | default false }}
{{- with .monitor.interval }}
interval: {{ . | quote }}
{{- end }}
{{- with .monitor.scrapeTimeout }}
scrapeTimeout: {{ . | quote }}
{{- end }}
{{- with .monitor.params }}
params:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .monitor.proxyUrl }}
proxyUrl: {{ . | quote }}
{{- end }}
{{- include "nextmv-exporter.scrapeSecurity" . }}
{{- include "nextmv-exporter.relabelings" . }}
{{- include "nextmv-exporter.metricRelabelings" . }}
{{- end -}}

{{/* What the specifications of a ServiceMonitor and a PodMonitor have in common. Takes a dict of: root, monitor. */}}
{{- define "nextmv-exporter.monitorSpec" -}}
{{- with .monitor.jobLabel }}
jobLabel: {{ . | quote }}
{{- end }}
{{- with .monitor.targetLabels }}
targetLabels:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .monitor.podTargetLabels }}
podTargetLabels:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .monitor.attachMetadata }}
attachMetadata:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- include "nextmv-exporter.scrapeLimits" . }}
namespaceSelector:
  matchNames:
    - {{ include "nextmv-exporter.namespace" .root | quote }}
selector:
  matchLabels:
    {{- include "nextmv-exporter.selectorLabels" .root | nindent 4 }}
{{- end -}}

{{/* Takes a dict of: monitor. */}}
{{- define "nextmv-exporter.scrapeLimits" -}}
{{- with .monitor.sampleLimit }}
sampleLimit: {{ int64 . }}
{{- end }}
{{- with .monitor.targetLimit }}
targetLimit: {{ int64 . }}
{{- end }}
{{- with .monitor.scrapeProtocols }}
scrapeProtocols:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* How Prometheus identifies itself to the exporter. Takes a dict of: root, monitor. */}}
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
{{- define "nextmv-exporter.relabelings" -}}
{{- with .monitor.relabelings }}
relabelings:
  {{- tpl (toYaml .) $.root | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Takes a dict of: root, monitor. */}}
{{- define "nextmv-exporter.metricRelabelings" -}}
{{- with .monitor.metricRelabelings }}
metricRelabelings:
  {{- tpl (toYaml .) $.root | nindent 2 }}
{{- end }}
{{- end -}}

{{/* The `job` label of a ScrapeConfig. */}}
{{- define "nextmv-exporter.scrapeConfigJob" -}}
{{- default (include "nextmv-exporter.fullname" .) .Values.scrapeConfig.jobName -}}
{{- end -}}

{{/* What the two ScrapeConfigs have in common. */}}
{{- define "nextmv-exporter.scrapeConfigSpec" -}}
{{- with .Values.scrapeConfig -}}
jobName: {{ include "nextmv-exporter.scrapeConfigJob" $ | quote }}
metricsPath: {{ $.Values.web.telemetryPath | quote }}
scheme: {{ include "nextmv-exporter.scheme" $ | upper }}
honorLabels: {{ .honorLabels | default false }}
{{- with .scrapeInterval }}
scrapeInterval: {{ . | quote }}
{{- end }}
{{- with .scrapeTimeout }}
scrapeTimeout: {{ . | quote }}
{{- end }}
{{- include "nextmv-exporter.scrapeLimits" (dict "monitor" .) }}
{{- include "nextmv-exporter.scrapeSecurity" (dict "root" $ "monitor" .) }}
{{- include "nextmv-exporter.metricRelabelings" (dict "root" $ "monitor" .) }}
{{- end }}
{{- end -}}

{{/* The selector labels as Prometheus's service discovery takes them: a=b,c=d. */}}
{{- define "nextmv-exporter.selectorList" -}}
{{- $pairs := list -}}
{{- range $key, $value := include "nextmv-exporter.selectorLabels" . | fromYaml -}}
{{- $pairs = append $pairs (printf "%s=%s" $key $value) -}}
{{- end -}}
{{- join "," $pairs -}}
{{- end -}}
