{{/* What the web configuration makes of the exporter's port. Each of these is "true" or empty, but for the scheme. */}}

{{- define "nextmv-exporter.scheme" -}}
{{- if or .Values.webConfig.tls .Values.webConfig.clientCertificate (.Values.webConfig.content | default dict).tls_server_config }}https{{ else }}http{{ end -}}
{{- end -}}

{{/* Whether the metrics need a password. */}}
{{- define "nextmv-exporter.password" -}}
{{- if or .Values.webConfig.basicAuth (.Values.webConfig.content | default dict).basic_auth_users }}true{{ end -}}
{{- end -}}

{{/* Whether every client needs a certificate. */}}
{{- define "nextmv-exporter.clientCertificate" -}}
{{- $type := dig "tls_server_config" "client_auth_type" "" (.Values.webConfig.content | default dict) -}}
{{- if or .Values.webConfig.clientCertificate (eq $type "RequireAndVerifyClientCert") }}true{{ end -}}
{{- end -}}

{{/* Whether there may be several pods. */}}
{{- define "nextmv-exporter.replicated" -}}
{{- if or (kindIs "invalid" .Values.replicas) (gt (int .Values.replicas) 1) }}true{{ end -}}
{{- end -}}

{{/*
The session affinity of the Service, or empty. Load balancers of some clouds reject ClientIP, and a headless Service has
none.
*/}}
{{- define "nextmv-exporter.sessionAffinity" -}}
{{- $without := or (eq (toString .Values.service.type) "LoadBalancer") (eq (toString .Values.service.clusterIP) "None") -}}
{{- $default := and (include "nextmv-exporter.replicated" .) (not $without) | empty | ternary "" "ClientIP" -}}
{{- default $default .Values.service.sessionAffinity -}}
{{- end -}}

{{/* The URL of the Service. The DNS name of a headless Service leads to the pods, and so to their port. */}}
{{- define "nextmv-exporter.url" -}}
{{- $port := eq (toString .Values.service.clusterIP) "None" | ternary .Values.containerPort .Values.service.port -}}
{{- printf "%s://%s.%s.svc:%d"
      (include "nextmv-exporter.scheme" .)
      (include "nextmv-exporter.fullname" .) (include "nextmv-exporter.namespace" .) (int $port) -}}
{{- end -}}
