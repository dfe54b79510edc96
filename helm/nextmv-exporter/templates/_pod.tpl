{{- define "nextmv-exporter.image" -}}
{{- with default .Values.image.registry .Values.global.imageRegistry }}{{ . }}/{{ end -}}
{{- .Values.image.repository -}}
{{- if .Values.image.digest }}@{{ .Values.image.digest }}{{ else }}:{{ default .Chart.AppVersion .Values.image.tag }}{{ end -}}
{{- end -}}

{{/* What the exporter's pod and the test's have in common. */}}
{{- define "nextmv-exporter.podSpec" -}}
{{- $names := list -}}
{{- range concat (.Values.global.imagePullSecrets | default list) (.Values.imagePullSecrets | default list) -}}
{{- $names = append $names (kindIs "map" . | ternary . (dict "name" .) | dig "name" "") -}}
{{- end -}}
{{- with uniq $names }}
imagePullSecrets:
{{- range . }}
  - name: {{ . | quote }}
{{- end }}
{{- end }}
automountServiceAccountToken: false
# A Service's variables, such as NEXTMV_EXPORTER_PORT, would be read as the exporter's settings.
enableServiceLinks: false
{{- with .Values.podSecurityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with include "nextmv-exporter.mergedText" (dict "root" . "maps" (list .Values.nodeSelector)) }}
nodeSelector:
  {{- . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/*
The files of credentials and configuration: where each is mounted, from which Secret, and for which flag. Without a key,
all keys of the Secret are mounted.
*/}}
{{- define "nextmv-exporter.files" -}}
{{- $own := include "nextmv-exporter.fullname" . -}}
{{- if or .Values.nextmv.apiKey .Values.nextmv.existingSecret }}
- name: api-key
  directory: /etc/nextmv-exporter/key
  file: api-key
  flag: --nextmv.api-key-file
  variable: NEXTMV_API_KEY_FILE
  secret: {{ tpl (default $own .Values.nextmv.existingSecret) . | quote }}
  key: {{ empty .Values.nextmv.existingSecret | ternary "api-key" .Values.nextmv.existingSecretKey | quote }}
{{- end }}
{{- if or .Values.nextmv.configFile .Values.nextmv.existingConfigSecret }}
- name: nextmv-config
  directory: /etc/nextmv-exporter/nextmv
  file: config.yaml
  flag: --nextmv.config-file
  variable: NEXTMV_CONFIG_FILE
  secret: {{ tpl (default $own .Values.nextmv.existingConfigSecret) . | quote }}
  key: {{ empty .Values.nextmv.existingConfigSecret | ternary "config.yaml" .Values.nextmv.existingConfigSecretKey | quote }}
{{- end }}
{{- if or .Values.webConfig.content .Values.webConfig.existingSecret }}
- name: web-config
  directory: /etc/nextmv-exporter/web
  flag: --web.config.file
  secret: {{ tpl (default $own .Values.webConfig.existingSecret) . | quote }}
  {{- if .Values.webConfig.existingSecret }}
  file: {{ .Values.webConfig.existingSecretKey | quote }}
  {{- else }}
  file: web-config.yml
  key: web-config.yml
  {{- end }}
{{- end }}
{{- with .Values.webConfig.tlsSecret }}
- name: tls
  directory: /etc/nextmv-exporter/tls
  secret: {{ tpl . $ | quote }}
{{- end }}
{{- end -}}

{{/* The data of the chart's own Secret; empty when there is none to make. */}}
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

{{- define "nextmv-exporter.args" -}}
{{- $args := empty .Values.demo | ternary list (list "--demo") -}}
{{- range include "nextmv-exporter.files" . | fromYamlArray -}}
{{- if .flag }}{{ $args = append $args (printf "%s=%s/%s" .flag .directory .file) }}{{ end -}}
{{- end -}}
{{- range .Values.nextmv.profiles -}}
{{- $args = append $args (printf "--nextmv.profile=%s" .) -}}
{{- end -}}
{{- $maxGroups := kindIs "invalid" .Values.queue.maxGroups | ternary "" (int64 .Values.queue.maxGroups | toString) -}}
{{- range $flag, $value := dict
      "--log.format" .Values.log.format
      "--log.level" .Values.log.level
      "--nextmv.account-name" .Values.nextmv.accountName
      "--nextmv.endpoint" .Values.nextmv.endpoint
      "--nextmv.max-response-bytes" .Values.nextmv.maxResponseBytes
      "--nextmv.run-lookback" .Values.nextmv.runLookback
      "--nextmv.source" .Values.nextmv.source
      "--nextmv.timeout" .Values.nextmv.timeout
      "--queue.max-groups" $maxGroups
      "--queue.wait-buckets" (.Values.queue.waitBuckets | default list | join ",")
      "--queue.zero-retention" .Values.queue.zeroRetention
      "--web.external-url" .Values.web.externalUrl
      "--web.listen-address" (printf ":%d" (int .Values.containerPort))
      "--web.telemetry-path" .Values.web.telemetryPath
      "--web.timeout-offset" .Values.web.timeoutOffset -}}
{{- if $value }}{{ $args = append $args (printf "%s=%s" $flag $value) }}{{ end -}}
{{- end -}}
{{- range .Values.extraArgs }}{{ $args = append $args (tpl . $) }}{{ end -}}
{{- toYaml $args -}}
{{- end -}}

{{/*
The environment: values become text, as Kubernetes demands. `kubectl exec … -- nextmv-queue` sees none of the exporter's
arguments, so the variables say again which accounts there are, unless `extraEnv` sets them.
*/}}
{{- define "nextmv-exporter.env" -}}
{{- $variables := dict
      "NEXTMV_ACCOUNT_NAME" .Values.nextmv.accountName
      "NEXTMV_ENDPOINT" .Values.nextmv.endpoint
      "NEXTMV_EXPORTER_NEXTMV_TIMEOUT" .Values.nextmv.timeout
      "NEXTMV_PROFILE" (.Values.nextmv.profiles | default list | join ",") -}}
{{- range include "nextmv-exporter.files" . | fromYamlArray -}}
{{- if .variable }}{{ $_ := set $variables .variable (printf "%s/%s" .directory .file) }}{{ end -}}
{{- end -}}
{{- range .Values.extraEnv }}{{ $_ := unset $variables .name }}{{ end -}}
{{- range $name, $value := $variables -}}
{{- if $value }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end -}}
{{- end -}}
{{- range .Values.extraEnv -}}
{{- $variable := . -}}
{{- if and (hasKey . "value") (not (kindIs "string" .value)) -}}
{{- $variable = merge (dict "value" (kindIs "invalid" .value | ternary "" (toJson .value))) . -}}
{{- end }}
- {{ tpl (toYaml $variable) $ | nindent 2 | trim }}
{{- end -}}
{{- end -}}

{{/*
A probe or a hook. Helm merges a handler of another kind with the default's, of which Kubernetes accepts one.
Takes a dict of: handler, default (the default's kind).
*/}}
{{- define "nextmv-exporter.handler" -}}
{{- $others := omit (pick .handler "exec" "grpc" "httpGet" "sleep" "tcpSocket") .default -}}
{{- $handler := empty (values $others | compact) | ternary .handler (omit .handler .default) -}}
{{- with $handler }}{{ toYaml . }}{{ end -}}
{{- end -}}

{{/* The probes: over TLS where the port has it, and no more than a connection where clients need a certificate. */}}
{{- define "nextmv-exporter.probes" -}}
{{- range $name := list "startupProbe" "livenessProbe" "readinessProbe" -}}
{{- with get $.Values $name -}}
{{- $probe := include "nextmv-exporter.handler" (dict "handler" . "default" "httpGet") | fromYaml -}}
{{- if and $probe.httpGet (include "nextmv-exporter.clientCertificate" $) -}}
{{- $probe = set (omit $probe "httpGet") "tcpSocket" (dict "port" "http") -}}
{{- else if $probe.httpGet -}}
{{- $_ := merge $probe.httpGet (dict "scheme" (include "nextmv-exporter.scheme" $ | upper)) -}}
{{- end }}
{{ $name }}:
  {{- toYaml $probe | nindent 2 }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "nextmv-exporter.lifecycle" -}}
{{- $hooks := dict -}}
{{- range $name, $hook := .Values.lifecycle -}}
{{- with include "nextmv-exporter.handler" (dict "handler" ($hook | default dict) "default" "exec") | fromYaml -}}
{{- $_ := set $hooks $name . -}}
{{- end -}}
{{- end -}}
{{- if $hooks }}{{ toYaml $hooks }}{{ end -}}
{{- end -}}
