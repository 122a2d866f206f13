{{- define "callvault.labels" -}}
app.kubernetes.io/name: callvault
app.kubernetes.io/part-of: callvault
{{- end }}

{{- /* Of every pod: who it runs as. */}}
{{- define "callvault.pod" -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext: {runAsNonRoot: true, runAsUser: 10001, runAsGroup: 10001, fsGroup: 10001, seccompProfile: {type: RuntimeDefault}}
{{- end }}

{{- /* Of receivers and workers: the settings, and the Secret with the rest. */}}
{{- define "callvault.settings" -}}
envFrom: [{configMapRef: {name: callvault}}, {secretRef: {name: {{ include "callvault.secret" . }}}}]
{{- end }}

{{- define "callvault.secret" -}}
{{ required "set secretName to an existing Secret" .Values.secretName }}
{{- end }}

{{- /* Of every container: its image, rights and folders. */}}
{{- define "callvault.container" -}}
image: "{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}"
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
volumeMounts:
  - {name: data, mountPath: /var/lib/callvault}
  - {name: tmp, mountPath: /tmp}
  {{- if .Values.accessFile }}
  - {name: access, mountPath: /etc/callvault, readOnly: true}
  {{- end }}
{{- end }}

{{- /* A change of the settings or of the access file restarts the pods. */}}
{{- define "callvault.checksum" -}}
checksum/settings: {{ print (toYaml .Values.settings) .Values.accessFile | sha256sum }}
{{- end }}
