{{- define "convsweep.labels" -}}
app.kubernetes.io/name: convsweep
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- /* Selects the pods of one component: include with (dict "root" $ "component" "api"). */ -}}
{{- define "convsweep.selector" -}}
app.kubernetes.io/name: convsweep
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "convsweep.tag" -}}
{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}

{{- define "convsweep.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile: { type: RuntimeDefault }
{{- end -}}

{{- define "convsweep.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end -}}

{{- /* Settings of a process with a role of its own: (dict "root" $ "role" "api"). */ -}}
{{- define "convsweep.environment" -}}
{{- $pg := .root.Values.postgres -}}
- name: CONVSWEEP_DATABASE_URL
  value: {{ printf "postgresql://convsweep_%s@%s:%v/%s?%s" .role $pg.host $pg.port $pg.database $pg.options | quote }}
- name: CONVSWEEP_DATABASE_PASSWORD_FILE
  value: /run/secrets/convsweep/{{ .role }}
{{- if ne .role "migrator" }}
- name: CONVSWEEP_BROKER_URL
  value: {{ regexReplaceAll "^(rediss?://)" .root.Values.broker.url (printf "${1}convsweep_%s@" .role) | quote }}
- name: CONVSWEEP_BROKER_PASSWORD_FILE
  value: /run/secrets/convsweep/redis_{{ .role }}
{{- end }}
{{- end -}}

{{- /* The volume with the passwords that one role needs, and a place to write. */ -}}
{{- define "convsweep.volumes" -}}
- name: secrets
  secret:
    secretName: {{ .root.Values.existingSecret }}
    defaultMode: 0440
    items:
      - { key: {{ .role }}, path: {{ .role }} }
      {{- if ne .role "migrator" }}
      - { key: redis_{{ .role }}, path: redis_{{ .role }} }
      {{- end }}
- name: tmp
  emptyDir: {}
{{- end -}}

{{- define "convsweep.mounts" -}}
- { name: secrets, mountPath: /run/secrets/convsweep, readOnly: true }
- { name: tmp, mountPath: /tmp }
{{- end -}}
