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
  - {name: files, mountPath: /etc/callvault, readOnly: true}
{{- end }}

{{- /* The values that are texts of files, as JSON: of each the setting that names the file, its name and its text. */}}
{{- define "callvault.files" -}}
{{- $files := list }}
{{- range list
  (list "accessFile" "CALLVAULT_ACCESS_FILE" "access.toml")
  (list "retentionFile" "CALLVAULT_RETENTION_FILE" "retention.toml")
  (list "connectionsFile" "CALLVAULT_CONNECTIONS_FILE" "connections.toml")
  (list "pricesFile" "CALLVAULT_PRICES_FILE" "prices.toml")
  (list "timestampCa" "CALLVAULT_TIMESTAMP_CA" "timestamp-ca.pem") }}
{{- $text := get $.Values (index . 0) }}
{{- if $text }}
{{- $files = append $files (dict "setting" (index . 1) "name" (index . 2) "text" $text) }}
{{- end }}
{{- end }}
{{- toJson $files }}
{{- end }}

{{- /* A change of the settings or of a file restarts the pods. */}}
{{- define "callvault.checksum" -}}
checksum/settings: {{ print (toYaml .Values.settings) (include "callvault.files" .) | sha256sum }}
{{- end }}
