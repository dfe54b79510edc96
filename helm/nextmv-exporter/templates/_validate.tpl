{{/* Reject values that contradict each other or that the exporter could not run with. Renders nothing. */}}
{{- define "nextmv-exporter.validate" -}}
{{- include "nextmv-exporter.validateAccounts" . -}}
{{- include "nextmv-exporter.validateImage" . -}}
{{- include "nextmv-exporter.validateWebConfig" . -}}
{{- include "nextmv-exporter.validateMonitors" . -}}
{{- include "nextmv-exporter.validateOthers" . -}}
{{- end -}}

{{- define "nextmv-exporter.validateAccounts" -}}
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
{{- $key := or .Values.demo .Values.nextmv.apiKey .Values.nextmv.existingSecret -}}
{{- $file := or .Values.nextmv.configFile .Values.nextmv.existingConfigSecret .Values.extraVolumeMounts -}}
{{- if and .Values.nextmv.profiles (or $key (not $file)) -}}
{{- $source := empty .Values.demo | ternary (first (append $given "the environment")) "demo: true" -}}
{{- fail (printf "nextmv.profiles names profiles of a configuration file, and %s is not one: set nextmv.existingConfigSecret or nextmv.configFile in its place, or remove nextmv.profiles" $source) -}}
{{- end -}}
{{- /* A profile may be called Error too. */ -}}
{{- $fault := get (fromYaml (default "{}" .Values.nextmv.configFile)) "Error" -}}
{{- if and (kindIs "string" $fault) $fault -}}
{{- fail "nextmv.configFile must be the text of a configuration file, a YAML mapping: give it with --set-file nextmv.configFile=PATH" -}}
{{- end -}}
{{- end -}}

{{- define "nextmv-exporter.validateImage" -}}
{{- $registry := default .Values.image.registry .Values.global.imageRegistry -}}
{{- $host := splitList "/" .Values.image.repository | initial | first | default "" -}}
{{- if and $registry (or (regexMatch "[.:]" $host) (eq $host "localhost")) -}}
{{- fail (printf "image.repository %q names the registry %s, and %s is put before it: remove the registry from image.repository, or clear image.registry and global.imageRegistry" .Values.image.repository $host $registry) -}}
{{- end -}}
{{- end -}}

{{- define "nextmv-exporter.validateWebConfig" -}}
{{- $web := .Values.webConfig -}}
{{- if and $web.content $web.existingSecret -}}
{{- fail "the web configuration comes from one place: keep one of webConfig.content, webConfig.existingSecret" -}}
{{- end -}}
{{- /* A file brought by extraVolumes and named by a flag of its own is a web configuration too. */ -}}
{{- $elsewhere := contains "--web.config.file" (join " " .Values.extraArgs) -}}
{{- $opaque := or $web.existingSecret $elsewhere -}}
{{- range $value, $key := dict "tls" "tls_server_config" "basicAuth" "basic_auth_users" "clientCertificate" "tls_server_config" -}}
{{- if and (get $web $value) (not (or $opaque (get ($web.content | default dict) $key))) -}}
{{- fail (printf "webConfig.%s is true, but no web configuration says so: set webConfig.content.%s, or webConfig.existingSecret" $value $key) -}}
{{- end -}}
{{- end -}}
{{- if and $web.tlsSecret (not (or $opaque ($web.content | default dict).tls_server_config)) -}}
{{- fail "webConfig.tlsSecret is only mounted: name its files in webConfig.content.tls_server_config (cert_file: /etc/nextmv-exporter/tls/tls.crt, key_file: /etc/nextmv-exporter/tls/tls.key)" -}}
{{- end -}}
{{- if and $web.clientCertificate (eq (include "nextmv-exporter.scheme" .) "http") -}}
{{- fail "webConfig.clientCertificate needs TLS: set webConfig.tls too" -}}
{{- end -}}
{{- end -}}

{{/* Reject a monitor whose scrapes the exporter would reject. */}}
{{- define "nextmv-exporter.validateMonitors" -}}
{{- range $name := list "serviceMonitor" "podMonitor" "scrapeConfig" -}}
{{- $monitor := get $.Values $name -}}
{{- if $monitor.enabled -}}
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

{{- define "nextmv-exporter.validateOthers" -}}
{{- range .Values.extraArgs -}}
{{- if regexMatch "^--web\\.telemetry-path(=|$)" (tpl . $) -}}
{{- fail (printf "extraArgs: %s is unknown to the monitors and the test: set web.telemetryPath in its place" (tpl . $)) -}}
{{- end -}}
{{- end -}}
{{- if regexMatch "^/(sd$|-/)" .Values.web.telemetryPath -}}
{{- fail (printf "web.telemetryPath: %s has another use (as have / and all below /-/): set it to a path such as /metrics" .Values.web.telemetryPath) -}}
{{- end -}}
{{- $budget := .Values.podDisruptionBudget -}}
{{- if and $budget.enabled (not (kindIs "invalid" $budget.minAvailable)) (not (kindIs "invalid" $budget.maxUnavailable)) -}}
{{- fail "a PodDisruptionBudget takes one of podDisruptionBudget.minAvailable, podDisruptionBudget.maxUnavailable" -}}
{{- end -}}
{{- if and .Values.ingress.enabled (not .Values.ingress.hosts) -}}
{{- fail "ingress.hosts is empty: name the host of the Ingress" -}}
{{- end -}}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) -}}
{{- fail "httpRoute.parentRefs: name the Gateway that the route attaches to" -}}
{{- end -}}
{{- end -}}
