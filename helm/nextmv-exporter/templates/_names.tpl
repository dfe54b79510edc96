{{- define "nextmv-exporter.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/*
The name of the Deployment, the Service and most other resources. A release may be named "1.2", but the name of a
Service begins with a letter and has no dots.
*/}}
{{- define "nextmv-exporter.fullname" -}}
{{- $name := include "nextmv-exporter.name" . -}}
{{- $full := .Values.fullnameOverride | default (contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name)) -}}
{{- $full = regexReplaceAll "[^a-z0-9-]+" (lower $full) "-" | trimPrefix "-" -}}
{{- if not (regexMatch "^[a-z]" $full) -}}
{{- $full = printf "release-%s" $full -}}
{{- end -}}
{{- $full | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/*
The full name with a suffix, in no more than 63 characters; a hash keeps what had to be cut apart from other names.
Takes a dict of: root, suffix.
*/}}
{{- define "nextmv-exporter.suffixedName" -}}
{{- $full := include "nextmv-exporter.fullname" .root -}}
{{- if gt (add (len $full) (len .suffix)) 63 -}}
{{- $full = printf "%s-%s" ($full | trunc (int (sub 54 (len .suffix))) | trimSuffix "-") (sha256sum $full | trunc 8) -}}
{{- end -}}
{{- $full }}{{ .suffix }}
{{- end -}}

{{- define "nextmv-exporter.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride -}}
{{- end -}}

{{- define "nextmv-exporter.serviceAccountName" -}}
{{- $own := empty .Values.serviceAccount.create | ternary "default" (include "nextmv-exporter.fullname" .) -}}
{{- default $own .Values.serviceAccount.name -}}
{{- end -}}

{{/*
Merge maps of text, such as labels, into one YAML mapping without duplicate keys. Later maps win, templates are
expanded, numbers and booleans become text, and null removes a key. Takes a dict of: root, maps.
*/}}
{{- define "nextmv-exporter.mergedText" -}}
{{- $merged := dict -}}
{{- range .maps -}}
{{- range $key, $value := . -}}
{{- $key = contains "{{" $key | ternary (tpl $key $.root) $key -}}
{{- if kindIs "invalid" $value -}}
{{- $_ := unset $merged $key -}}
{{- else -}}
{{- $text := kindIs "string" $value | ternary $value (toJson $value) -}}
{{- $_ := set $merged $key (contains "{{" $text | ternary (tpl $text $.root) $text) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if $merged }}{{ toYaml $merged }}{{ end -}}
{{- end -}}

{{/* Identify the pods of this release. Immutable in a Deployment, so that no value overrides them. */}}
{{- define "nextmv-exporter.selectorLabels" -}}
app.kubernetes.io/name: {{ include "nextmv-exporter.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{/* The pod of `helm test`, which the Service must not select. */}}
{{- define "nextmv-exporter.testSelectorLabels" -}}
app.kubernetes.io/name: {{ printf "%s-test" (include "nextmv-exporter.name" . | trunc 58 | trimSuffix "-") | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{/*
The labels of a pod. None of them has a version, so that a new version of the chart alone restarts no pod.
Takes a dict of: root, and optionally labels, selector (the name of a template).
*/}}
{{- define "nextmv-exporter.podLabels" -}}
{{- $standard := dict
      "app.kubernetes.io/component" "metrics"
      "app.kubernetes.io/part-of" (include "nextmv-exporter.name" .root)
      "app.kubernetes.io/managed-by" .root.Release.Service -}}
{{- if .root.Values.releaseLabel -}}
{{- $_ := set $standard "release" .root.Release.Name -}}
{{- end -}}
{{- $selector := include (default "nextmv-exporter.selectorLabels" .selector) .root | fromYaml -}}
{{- include "nextmv-exporter.mergedText" (dict "root" .root "maps" (list (default dict .versions) $standard .root.Values.commonLabels .labels $selector)) -}}
{{- end -}}

{{/* The labels of all else. Takes a dict of: root, and optionally labels, selector. */}}
{{- define "nextmv-exporter.labels" -}}
{{- $versions := dict
      "helm.sh/chart" (printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-")
      "app.kubernetes.io/version" .root.Chart.AppVersion -}}
{{- include "nextmv-exporter.podLabels" (merge (dict "versions" $versions) .) -}}
{{- end -}}

{{/* The metadata of a resource. Takes a dict of: root, and optionally name, namespace, labels, selector, annotations. */}}
{{- define "nextmv-exporter.metadata" -}}
name: {{ default (include "nextmv-exporter.fullname" .root) .name | quote }}
namespace: {{ default (include "nextmv-exporter.namespace" .root) .namespace | quote }}
labels:
  {{- include "nextmv-exporter.labels" . | nindent 2 }}
{{- with include "nextmv-exporter.mergedText" (dict "root" .root "maps" (list .root.Values.commonAnnotations .annotations)) }}
annotations:
  {{- . | nindent 2 }}
{{- end }}
{{- end -}}

{{/*
Those of some values that are set, under their own names, templates expanded and large numbers written in full.
Takes a dict of: root, values, names.
*/}}
{{- define "nextmv-exporter.pass" -}}
{{- $passed := dict -}}
{{- range .names -}}
{{- $value := get $.values . -}}
{{- if not (has (toJson $value) (list "null" `""` "[]" "{}")) -}}
{{- $_ := set $passed . (kindIs "float64" $value | ternary (int64 $value) $value) -}}
{{- end -}}
{{- end -}}
{{- if $passed }}{{ tpl (toYaml $passed) .root }}{{ end -}}
{{- end -}}
