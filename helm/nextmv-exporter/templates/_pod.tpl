{{- define "nextmv-exporter.image" -}}
{{- with default .Values.image.registry .Values.global.imageRegistry }}{{ . }}/{{ end -}}
{{- .Values.image.repository -}}
{{- if .Values.image.digest }}@{{ .Values.image.digest }}{{ else }}:{{ default .Chart.AppVersion .Values.image.tag }}{{ end -}}
{{- end -}}

{{- define "nextmv-exporter.imagePullSecrets" -}}
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
{{- $args := list
      (printf "--web.listen-address=:%d" (int .Values.containerPort))
      (printf "--web.telemetry-path=%s" .Values.web.telemetryPath)
      (printf "--log.level=%s" .Values.log.level)
      (printf "--log.format=%s" .Values.log.format) -}}
{{- if .Values.demo -}}
{{- $args = append $args "--demo" -}}
{{- end -}}
{{- range include "nextmv-exporter.files" . | fromYamlArray -}}
{{- $args = append $args (printf "%s=%s/%s" .flag .directory .file) -}}
{{- end -}}
{{- range .Values.nextmv.profiles -}}
{{- $args = append $args (printf "--nextmv.profile=%s" .) -}}
{{- end -}}
{{- $maxGroups := kindIs "invalid" .Values.queue.maxGroups | ternary "" (int64 .Values.queue.maxGroups | toString) -}}
{{- range $flag, $value := dict
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
      "--web.timeout-offset" .Values.web.timeoutOffset -}}
{{- if $value -}}
{{- $args = append $args (printf "%s=%s" $flag $value) -}}
{{- end -}}
{{- end -}}
{{- range .Values.extraArgs -}}
{{- $args = append $args (tpl . $) -}}
{{- end -}}
{{- toYaml $args -}}
{{- end -}}

{{/*
The environment: values become text, as Kubernetes demands. `kubectl exec … -- nextmv-queue` sees none of the exporter's
arguments, so what both need is there too, unless `extraEnv` sets it.
*/}}
{{- define "nextmv-exporter.env" -}}
{{- $shared := dict
      "NEXTMV_ENDPOINT" .Values.nextmv.endpoint
      "NEXTMV_EXPORTER_NEXTMV_TIMEOUT" .Values.nextmv.timeout
      "NEXTMV_PROFILE" (.Values.nextmv.profiles | default list | join ",") -}}
{{- range include "nextmv-exporter.files" . | fromYamlArray -}}
{{- $shared = set $shared (.variable | default "") (printf "%s/%s" .directory .file) -}}
{{- end -}}
{{- range .Values.extraEnv -}}
{{- $shared = unset $shared .name -}}
{{- end -}}
{{- range $name, $value := unset $shared "" -}}
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

{{/* The container's hooks. A preStop of another kind replaces the default's command, which Helm merges with it. */}}
{{- define "nextmv-exporter.lifecycle" -}}
{{- $hooks := dict -}}
{{- range $name, $hook := .Values.lifecycle -}}
{{- if and (kindIs "map" $hook) (or $hook.sleep $hook.httpGet $hook.tcpSocket) -}}
{{- $hook = omit $hook "exec" -}}
{{- end -}}
{{- if $hook -}}
{{- $_ := set $hooks $name $hook -}}
{{- end -}}
{{- end -}}
{{- if $hooks }}{{ toYaml $hooks }}{{ end -}}
{{- end -}}

{{/*
A probe that fits the web configuration: its scheme, or a command in the container where clients need a certificate,
which the kubelet does not have. Takes a dict of: root, probe.
*/}}
{{- define "nextmv-exporter.probe" -}}
{{- $probe := deepCopy .probe -}}
{{- if or $probe.exec $probe.tcpSocket $probe.grpc -}}
{{- $probe = omit $probe "httpGet" -}}
{{- else if and $probe.httpGet (include "nextmv-exporter.clientCertificate" .root) -}}
{{- $command := list "nextmv-exporter" "--web.healthcheck" -}}
{{- range include "nextmv-exporter.args" .root | fromYamlArray -}}
{{- if regexMatch "^--web\\.(listen-address|config\\.file)=" . -}}
{{- $command = append $command . -}}
{{- end -}}
{{- end -}}
{{- $probe = set (omit $probe "httpGet") "exec" (dict "command" $command) -}}
{{- else if $probe.httpGet -}}
{{- $_ := merge $probe.httpGet (dict "scheme" (include "nextmv-exporter.scheme" .root | upper)) -}}
{{- end -}}
{{- toYaml $probe -}}
{{- end -}}
