{{/* Reject values that contradict each other, or that another chart would have. Renders nothing. */}}
{{- define "nextmv-exporter.validate" -}}
{{- with include "nextmv-exporter.found" (dict "root" . "list" "foreign") | fromYamlArray -}}
{{- fail (printf "some values have other names in this chart:\n- %s" (join "\n- " .)) -}}
{{- end -}}

{{- $given := list -}}
{{- range list "apiKey" "existingSecret" "configFile" "existingConfigSecret" -}}
{{- if get $.Values.nextmv . }}{{ $given = append $given (printf "nextmv.%s" .) }}{{ end -}}
{{- end -}}
{{- if and .Values.demo $given -}}
{{- fail (printf "demo: true monitors a simulated account and needs no credentials: remove %s, or demo" (join ", " $given)) -}}
{{- end -}}
{{- if gt (len $given) 1 -}}
{{- fail (printf "the accounts to monitor come from one place: keep one of %s" (join ", " $given)) -}}
{{- end -}}
{{- if not (or .Values.demo $given .Values.extraEnv .Values.extraEnvFrom .Values.extraVolumeMounts) -}}
{{- fail "no Nextmv account is configured: set nextmv.existingSecret (or apiKey, existingConfigSecret, configFile), or demo: true to try the chart without one" -}}
{{- end -}}
{{- $file := or .Values.nextmv.configFile .Values.nextmv.existingConfigSecret .Values.extraVolumeMounts -}}
{{- if and .Values.nextmv.profiles (or .Values.demo .Values.nextmv.apiKey .Values.nextmv.existingSecret (not $file)) -}}
{{- fail "nextmv.profiles names profiles of a configuration file: set nextmv.existingConfigSecret or nextmv.configFile in place of other credentials, or remove nextmv.profiles" -}}
{{- end -}}
{{- if and .Values.nextmv.configFile (not (contains ":" .Values.nextmv.configFile)) -}}
{{- fail "nextmv.configFile must be the text of a configuration file: give it with --set-file nextmv.configFile=PATH" -}}
{{- end -}}

{{- $web := .Values.webConfig -}}
{{- if and $web.content $web.existingSecret -}}
{{- fail "the web configuration comes from one place: keep one of webConfig.content, webConfig.existingSecret" -}}
{{- end -}}
{{- /* The chart knows nothing of a file in a Secret, or of a file that is mounted by extraVolumes. */ -}}
{{- if not (or $web.existingSecret (contains "--web.config.file" (join " " .Values.extraArgs))) -}}
{{- range $name, $key := dict "tls" "tls_server_config" "tlsSecret" "tls_server_config" "clientCertificate" "tls_server_config" "basicAuth" "basic_auth_users" -}}
{{- if and (get $web $name) (not (get ($web.content | default dict) $key)) -}}
{{- fail (printf "webConfig.%s is set, but the web configuration has no %s: set webConfig.content.%s, or webConfig.existingSecret" $name $key $key) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- range $name := list "serviceMonitor" "podMonitor" -}}
{{- $monitor := merge (deepCopy (get $.Values $name)) $.Values.serviceMonitor -}}
{{- if (get $.Values $name).enabled -}}
{{- if and (include "nextmv-exporter.password" $) (not (or $monitor.basicAuth $monitor.authorization)) -}}
{{- fail (printf "the web configuration asks for a password, and Prometheus has none to send: set %s.basicAuth" $name) -}}
{{- end -}}
{{- $tls := $monitor.tlsConfig | default dict -}}
{{- if and (include "nextmv-exporter.clientCertificate" $) (not (or $tls.cert $tls.certFile)) -}}
{{- fail (printf "the web configuration asks clients for a certificate, and Prometheus has none: set %s.tlsConfig.cert and keySecret" $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/*
What files/renamed.yaml says of values that are there, as a list. Takes a dict of: root, list (the name of a list).
*/}}
{{- define "nextmv-exporter.found" -}}
{{- $names := get (.root.Files.Get "files/renamed.yaml" | fromYaml) .list -}}
{{- range $path, $advice := deepCopy $names -}}
{{- if hasPrefix "serviceMonitor." $path -}}
{{- $_ := set $names (replace "serviceMonitor" "podMonitor" $path) (replace "serviceMonitor" "podMonitor" $advice) -}}
{{- end -}}
{{- end -}}
{{- range $path, $advice := $names -}}
{{- $value := $.root.Values -}}
{{- range splitList "." $path -}}
{{- $value = get (kindIs "map" $value | ternary $value dict) . -}}
{{- end -}}
{{- $was := "" -}}
{{- if kindIs "map" $advice -}}
{{- $was = $advice.was -}}
{{- $advice = $advice.now -}}
{{- end -}}
{{- if not (has (toJson $value) (list `""` (toJson $was))) }}
- {{ printf "%s: %s" $path $advice | quote }}
{{- end -}}
{{- end -}}
{{- end -}}
