{{/* The image of a program: `include "causeway.image" (list $ .Values.image)`. A digest stands for a tag. */}}
{{- define "causeway.image" -}}
{{- $chart := (index . 0).Chart -}}
{{- $image := index . 1 -}}
{{- $tag := $image.tag | default $chart.AppVersion -}}
{{- $image.repository }}{{ hasPrefix "sha256:" $tag | ternary "@" ":" }}{{ $tag -}}
{{- end }}

{{/* Where and as what a pod runs: `include "causeway.placement" (list $ .Values.allocator)`. */}}
{{- define "causeway.placement" -}}
{{- $part := index . 1 -}}
{{- with (index . 0).Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $part.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $part.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $part.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Replicas rather on different nodes: `include "causeway.apart" "causeway-allocator"`. */}}
{{- define "causeway.apart" -}}
affinity:
  podAntiAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 100
        podAffinityTerm:
          topologyKey: kubernetes.io/hostname
          labelSelector:
            matchLabels:
              app.kubernetes.io/name: {{ . }}
{{- end }}

{{/* What the programs are told in the same words, as environment variables. */}}
{{- define "causeway.log" -}}
- name: CAUSEWAY_LOG_LEVEL
  value: {{ .Values.logLevel | quote }}
- name: CAUSEWAY_LOG_FORMAT
  value: {{ .Values.logFormat }}
{{- end }}

{{- define "causeway.pod" -}}
- name: CAUSEWAY_NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
- name: POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: POD_UID
  valueFrom: {fieldRef: {fieldPath: metadata.uid}}
{{- with .Values.loadBalancerClass }}
- name: CAUSEWAY_LB_CLASS
  value: {{ . }}
{{- end }}
{{- end }}
