{{- /*
The source of the recording and alerting rules. The chart renders it into a PrometheusRule, and
`make dashboards` renders it at its defaults into grafana/alerts/nextmv-exporter.rules.yaml.
Helpers are in templates/prometheusrule.yaml. Annotations are quoted: an apostrophe ends them.
*/ -}}
{{- $settings := .Values.prometheusRule -}}
{{- $t := $settings.thresholds -}}
{{- $gap := $t.gapTolerance -}}
{{- /* Labels of a target that change when its pod moves, or that differ between replicas. */ -}}
{{- $moving := "instance, pod, container, endpoint, node, nodename, host, hostname, pod_ip, host_ip, pod_template_hash" -}}
{{- $once := printf "max without (%s)" $moving -}}
{{- $account := "account {{ $labels.account }}" -}}
{{- $class := "{{ $labels.execution_class }}" -}}
{{- $queue := printf "nextmv-queue --account %s" (include "nextmv-exporter.quoted" "account") -}}
{{- $ofClass := printf "--execution-class %s" (include "nextmv-exporter.quoted" "execution_class") -}}
{{- $count := `{{ $value | printf "%.0f" }}` -}}
{{- $duration := "{{ $value | humanizeDuration }}" -}}
{{- $level := include "nextmv-exporter.byClass" (list "nextmv-exporter.minutes" $t.serviceLevelSeconds $t.serviceLevelSecondsByClass) -}}
{{- $may := include "nextmv-exporter.byClass" (list "nextmv-exporter.rest" $t.serviceLevelShare $t.serviceLevelShareByClass) -}}
{{- $unlessFiring := `unless ignoring (alertname, alertstate, severity) ALERTS{alertname=%q, alertstate="firing"}` -}}
{{- $unlessClockOff := "unless ignoring (execution_class) max_over_time(account:nextmv_api_clock_offset_seconds:max[%s]) > 30" -}}
# Aggregations are `without` the labels that change when a pod moves, so that job, namespace,
# cluster and whatever else distinguishes two environments stays. A series thus outlives a pod,
# and an account that two replicas watch counts once.
groups:
  - name: nextmv-exporter.queue
    rules:
      - record: account:nextmv_up:max
        expr: {{ $once }} (nextmv_up)
      # The share of time in which the account was readable.
      - record: account:nextmv_up:avg
        expr: avg_over_time(account:nextmv_up:max[{{ $t.errorWindow }}])
      - record: account:nextmv_scrape_errors:rate
        expr: {{ replace "max" "sum" $once }} (rate(nextmv_scrape_errors_total[{{ $t.errorWindow }}]))
      - record: account:nextmv_api_clock_offset_seconds:max
        expr: {{ $once }} (abs(nextmv_api_clock_offset_seconds))
      - record: execution_class:nextmv_account_queue_length:sum
        expr: {{ $once }} (sum without (application_id) (nextmv_account_queue_length))
      - record: execution_class:nextmv_account_queue_oldest_queued_run_age_seconds:max
        expr: max without (application_id, {{ $moving }}) (nextmv_account_queue_oldest_queued_run_age_seconds)
      # What was last seen goes on for a while if nobody can see, so that failed scrapes reset nothing.
      - record: execution_class:nextmv_account_queue_queued:last
        expr: |
          sum without (status_v2) (
            execution_class:nextmv_account_queue_length:sum{status_v2="queued"}
            or last_over_time(execution_class:nextmv_account_queue_length:sum{status_v2="queued"}[{{ $gap }}])
            unless ignoring (execution_class, status_v2) account:nextmv_up:max == 1
          )
      # Ages mean nothing while the exporter's clock is off.
      - record: execution_class:nextmv_account_queue_oldest_queued_run_age_seconds:last
        expr: |
          (
            execution_class:nextmv_account_queue_oldest_queued_run_age_seconds:max
            or last_over_time(execution_class:nextmv_account_queue_oldest_queued_run_age_seconds:max[{{ $gap }}])
            unless ignoring (execution_class) account:nextmv_up:max == 1
          )
          {{ printf $unlessClockOff $gap }}
      # Not in the future, as a clock that was ahead leaves it.
      - record: execution_class:nextmv_account_queue_last_start_timestamp_seconds:max
        expr: {{ $once }} (nextmv_account_queue_last_start_timestamp_seconds) < time() + 60
      # A restarted exporter has seen no start: Prometheus remembers it for a day.
      - record: execution_class:nextmv_account_queue_last_start_age_seconds:min
        expr: |
          time() - max_over_time(execution_class:nextmv_account_queue_last_start_timestamp_seconds:max[1d])
          {{ printf $unlessClockOff $gap }}
      # While a class is at its limit, the longest run may pass until the next one starts.
      - record: execution_class:nextmv_account_queue_last_start_age_seconds:threshold
        expr: |
          {{- range $name, $seconds := $t.notStartingSecondsByClass }}
          execution_class:nextmv_account_queue_queued:last{execution_class={{ $name | quote }}} * 0 + {{ int64 $seconds }} or
          {{- end }}
          clamp_min(1.1 * {{ $once }} (nextmv_execution_class_max_run_seconds), {{ int64 $t.notStartingSeconds }})
          or execution_class:nextmv_account_queue_queued:last * 0 + {{ int64 $t.notStartingSeconds }}
      - record: execution_class:nextmv_account_queue_oldest_queued_run_age_seconds:threshold
        expr: |
          {{- range $name, $seconds := $t.oldestQueuedSecondsByClass }}
          execution_class:nextmv_account_queue_queued:last{execution_class={{ $name | quote }}} * 0 + {{ $seconds }} or
          {{- end }}
          clamp_min(1.1 * {{ $once }} (nextmv_execution_class_max_run_seconds), {{ $t.oldestQueuedSeconds }})
          or execution_class:nextmv_account_queue_queued:last * 0 + {{ $t.oldestQueuedSeconds }}

      # No series of running runs means none, as in a class that has just appeared.
      - alert: NextmvQueueStalled
        expr: |
          execution_class:nextmv_account_queue_queued:last > 0
          unless ignoring (status_v2) last_over_time(execution_class:nextmv_account_queue_length:sum{status_v2="running"}[{{ $gap }}]) > 0
          or {{ include "nextmv-exporter.unseen" "NextmvQueueStalled" | nindent 10 | trim }}
        for: {{ $t.stalledFor }}
        labels: {severity: critical}
        annotations:
          summary: 'Nextmv {{ $account }}: runs of {{ $class }} are queued and none is running'
          description: 'Nobody who submits runs of {{ $class }} gets a result. See whether any run: `{{ $queue }} --status running {{ $ofClass }}`'{{ include "nextmv-exporter.links" (list "NextmvQueueStalled" $settings) }}

      # Either the oldest run waits for longer than any run may take, or nothing has started for
      # that long, so that all running runs should have ended, and something is queued all the time.
      - alert: NextmvRunsNotStarting
        expr: |
          (
            execution_class:nextmv_account_queue_oldest_queued_run_age_seconds:last > execution_class:nextmv_account_queue_last_start_age_seconds:threshold
            or execution_class:nextmv_account_queue_last_start_age_seconds:min > execution_class:nextmv_account_queue_last_start_age_seconds:threshold
            and execution_class:nextmv_account_queue_queued:last > 0
            and min_over_time(execution_class:nextmv_account_queue_queued:last[{{ int64 $t.notStartingSeconds }}s]) > 0
            and last_over_time(execution_class:nextmv_account_queue_queued:last[{{ div $t.notStartingSeconds 2 }}s] offset {{ div $t.notStartingSeconds 2 }}s)
          )
          unless execution_class:nextmv_account_queue_last_start_age_seconds:min <= execution_class:nextmv_account_queue_last_start_age_seconds:threshold
          {{ printf $unlessFiring "NextmvQueueStalled" }}
          or {{ include "nextmv-exporter.unseen" "NextmvRunsNotStarting" | nindent 10 | trim }}
        for: {{ $t.notStartingFor }}
        labels: {severity: critical}
        annotations:
          summary: 'Nextmv {{ $account }}: runs of {{ $class }} are queued and none starts'
          description: 'No run of {{ $class }} has started for longer than one of them may take. See which hang: `{{ $queue }} --status running {{ $ofClass }} --wide`'{{ include "nextmv-exporter.links" (list "NextmvRunsNotStarting" $settings) }}

      - alert: NextmvOldestQueuedRunTooOld
        expr: |
          execution_class:nextmv_account_queue_oldest_queued_run_age_seconds:last
          > execution_class:nextmv_account_queue_oldest_queued_run_age_seconds:threshold
          {{ printf $unlessFiring "NextmvQueueStalled" }}
          {{ printf $unlessFiring "NextmvRunsNotStarting" }}
        for: {{ $t.oldestQueuedFor }}
        labels: {severity: warning}
        annotations:
          summary: 'Nextmv {{ $account }}: a run of {{ $class }} has waited for {{ $duration }}'
          description: 'Its owner waits for longer than the class should make anyone wait. See which run it is: `{{ $queue }} --status queued {{ $ofClass }} --wide`'{{ include "nextmv-exporter.links" (list "NextmvOldestQueuedRunTooOld" $settings) }}

      # Most scrapes fail, and most of those for the key.
      - alert: NextmvAccountAuthFailed
        expr: |
          account:nextmv_up:avg < 0.5
          and ignoring (reason) account:nextmv_scrape_errors:rate{reason="auth"} > ignoring (reason) 0.5 * sum without (reason) (account:nextmv_scrape_errors:rate)
        for: {{ $t.authFailedFor }}
        keep_firing_for: {{ $t.keepFiringFor }}
        labels: {severity: critical}
        annotations:
          summary: 'Nextmv {{ $account }} is not monitored: its API key is rejected'
          description: 'No alert on its queue can fire until the exporter has a valid key. See the error: `{{ $queue }} --limit 1`'{{ include "nextmv-exporter.links" (list "NextmvAccountAuthFailed" $settings) }}

      # It goes on for as long as the alerts on the queue need to fire again.
      - alert: NextmvAccountUnreadable
        expr: |
          account:nextmv_up:avg < 0.5
          unless ignoring (alertname, alertstate, severity) ALERTS{alertname="NextmvAccountAuthFailed"}
        for: {{ $t.unreadableFor }}
        keep_firing_for: {{ $t.keepFiringFor }}
        labels: {severity: critical}
        annotations:
          summary: 'Nextmv {{ $account }} is not monitored: its queue cannot be read ({{ include "nextmv-exporter.reason" . }})'
          description: 'No alert on its queue can fire until most scrapes succeed again. See the error: `{{ $queue }} --limit 1`'{{ include "nextmv-exporter.links" (list "NextmvAccountUnreadable" $settings) }}

      # One replica cannot read what others can, or one target only at times, as where a Service
      # leads it to replicas of which one has another key: half of the scrapes then succeed. For
      # as long again, so that an outage that is over does not count.
      - alert: NextmvAccountPartlyUnreadable
        expr: |
          avg_over_time(nextmv_up[{{ $t.partlyUnreadableFor }}]) < 0.75
          and last_over_time(nextmv_up[{{ $gap }}])
          and on (job, namespace, cluster, account) avg_over_time(account:nextmv_up:max[{{ $t.partlyUnreadableFor }}]) > 0.48
        for: {{ $t.partlyUnreadableFor }}
        labels: {severity: warning}
        annotations:
          summary: 'Nextmv {{ $account }} is monitored in part: {{ "{{ $labels.instance }}" }} often cannot read it'
          description: 'Many of its scrapes fail while others succeed. See whether its key is valid, where it runs: `{{ $queue }} --limit 1`'{{ include "nextmv-exporter.links" (list "NextmvAccountPartlyUnreadable" $settings) }}

      # An account that is gone while its exporter is not, whatever other labels its target had,
      # and unless all targets that are left of those that reported it are down. Ends by itself,
      # since it may have been removed on purpose.
      - alert: NextmvAccountVanished
        expr: |
          max by (job, namespace, cluster, account) (last_over_time(nextmv_up[{{ $t.vanishedWithin }}]))
          unless on (job, namespace, cluster, account) nextmv_up
          unless on (job, namespace, cluster, account)
          max by (job, namespace, cluster, account) (
            last_over_time(nextmv_up[{{ $t.vanishedWithin }}]) * 0
            + on (job, namespace, cluster, instance) group_left () max by (job, namespace, cluster, instance) (up)
          ) == 0
          and on (job, namespace, cluster) up == 1
        for: {{ $t.vanishedFor }}
        labels: {severity: critical}
        annotations:
          summary: 'Nextmv {{ $account }} is not monitored: the exporter no longer reports it'
          description: 'Unless it was removed on purpose, restore its profile or its key. This alert ends {{ $t.vanishedWithin }} after its last metrics. See the error: `{{ $queue }} --limit 1`'{{ include "nextmv-exporter.links" (list "NextmvAccountVanished" $settings) }}

      # Where most scrapes fail, the account is unreadable.
      - alert: NextmvApiRateLimited
        expr: account:nextmv_up:avg >= 0.5 and ignoring (reason) account:nextmv_scrape_errors:rate{reason="rate_limited"} > 0
        for: {{ $t.rateLimitedFor }}
        labels: {severity: warning}
        annotations:
          summary: 'Nextmv {{ $account }} is monitored with gaps: the API limits the rate of requests'
          description: 'Scrape less often, or find out who else uses the key. See whether it is over: `{{ $queue }} --limit 1`'{{ include "nextmv-exporter.links" (list "NextmvApiRateLimited" $settings) }}

      - alert: NextmvMalformedRuns
        expr: {{ $once }} (nextmv_account_queue_malformed_runs) > {{ $t.malformedRuns }}
        for: {{ $t.malformedFor }}
        keep_firing_for: {{ $t.keepFiringFor }}
        labels: {severity: warning}
        annotations:
          summary: 'Nextmv {{ $account }}: {{ $count }} runs have a missing or invalid field'
          description: 'They are counted as far as they are known. See them: `{{ $queue }} --json --limit 0`'{{ include "nextmv-exporter.links" (list "NextmvMalformedRuns" $settings) }}

      - alert: NextmvGroupsFolded
        expr: {{ $once }} (nextmv_account_queue_folded_groups) > {{ $t.foldedGroups }}
        for: {{ $t.foldedFor }}
        keep_firing_for: {{ $t.keepFiringFor }}
        labels: {severity: info}
        annotations:
          summary: 'Nextmv {{ $account }}: {{ $count }} groups are reported together as application __other__'
          description: 'Raise --queue.max-groups if Prometheus can store more series. See what fills the queue: `{{ $queue }} --limit 0`'{{ include "nextmv-exporter.links" (list "NextmvGroupsFolded" $settings) }}

  # The service level: the share of runs that start in time. Runs that never start are not
  # counted: for them there are the alerts above. Days are summed up from hours.
  - name: nextmv-exporter.service-level
    interval: 2m
    rules:
      # A class whose runs may take more than three hours has none unless it is given one.
      - record: execution_class:nextmv_account_queue_start_wait_seconds:level
        expr: |
          {{- range $name, $seconds := $t.serviceLevelSecondsByClass }}
          {{ $once }} (nextmv_account_queue_last_start_timestamp_seconds{execution_class={{ $name | quote }}}) * 0 + {{ $seconds }} or
          {{- end }}
          {{ $once }} (nextmv_account_queue_last_start_timestamp_seconds) * 0 + {{ $t.serviceLevelSeconds }}
          unless {{ $once }} (nextmv_execution_class_max_run_seconds) > 10800
      # Of several replicas the one that has seen most.
      - record: execution_class:nextmv_account_queue_starts_late:increase1h
        expr: |
          (
            {{- range $n, $seconds := uniq (prepend (values $t.serviceLevelSecondsByClass) $t.serviceLevelSeconds) }}
            {{ if $n }}or {{ end }}{{ $once }} (
              increase(nextmv_account_queue_start_wait_seconds_count[1h])
              - sum without (le) (increase(nextmv_account_queue_start_wait_seconds_bucket{le=~"{{ $seconds }}([.]0)?"}[1h]))
            ) and execution_class:nextmv_account_queue_start_wait_seconds:level == {{ $seconds }}
            {{- end }}
          )
          {{ printf $unlessClockOff "1h" }}
      - record: execution_class:nextmv_account_queue_starts_late_allowed:increase1h
        expr: |
          (
            {{- range $name, $share := $t.serviceLevelShareByClass }}
            {{ $once }} (increase(nextmv_account_queue_start_wait_seconds_count{execution_class={{ $name | quote }}}[1h])) * (1 - {{ $share }}) or
            {{- end }}
            {{ $once }} (increase(nextmv_account_queue_start_wait_seconds_count[1h])) * (1 - {{ $t.serviceLevelShare }})
          ) and execution_class:nextmv_account_queue_starts_late:increase1h
      - record: execution_class:nextmv_account_queue_starts_late:sum3d
        expr: sum_over_time(execution_class:nextmv_account_queue_starts_late:increase1h[3d:1h])

      - alert: NextmvServiceLevelFastBurn
        expr: |
          round(execution_class:nextmv_account_queue_starts_late:increase1h) >= {{ $t.serviceLevelMinimumLate }}
          and execution_class:nextmv_account_queue_starts_late:increase1h > {{ $t.fastBurnFactor }} * execution_class:nextmv_account_queue_starts_late_allowed:increase1h
        labels: {severity: {{ $settings.severity.NextmvServiceLevelFastBurn }}}
        annotations:
          summary: 'Nextmv {{ $account }}: {{ $count }} runs of {{ $class }} started later than {{ $level }} within an hour, {{ $may }} may'
          description: 'All who submit runs of {{ $class }} wait. See who fills the queue: `{{ $queue }} {{ $ofClass }} --limit 0 --wide`'{{ include "nextmv-exporter.links" (list "NextmvServiceLevelFastBurn" $settings) }}

      - alert: NextmvServiceLevelSlowBurn
        expr: |
          round(execution_class:nextmv_account_queue_starts_late:sum3d) >= {{ $t.serviceLevelMinimumLate }}
          and execution_class:nextmv_account_queue_starts_late:sum3d > sum_over_time(execution_class:nextmv_account_queue_starts_late_allowed:increase1h[3d:1h])
          and sum_over_time(execution_class:nextmv_account_queue_starts_late:increase1h[6h:1h]) > sum_over_time(execution_class:nextmv_account_queue_starts_late_allowed:increase1h[6h:1h])
          {{ printf $unlessFiring "NextmvServiceLevelFastBurn" }}
        labels: {severity: {{ $settings.severity.NextmvServiceLevelSlowBurn }}}
        annotations:
          summary: 'Nextmv {{ $account }}: {{ $count }} runs of {{ $class }} started later than {{ $level }} within three days, {{ $may }} may'
          description: 'The class is too small for its work, or all of it comes at once. See who fills the queue: `{{ $queue }} {{ $ofClass }} --limit 0 --wide`'{{ include "nextmv-exporter.links" (list "NextmvServiceLevelSlowBurn" $settings) }}

      # The time must be one of the histogram's buckets, and these be scraped.
      - alert: NextmvServiceLevelUnknown
        expr: |
          execution_class:nextmv_account_queue_start_wait_seconds:level unless execution_class:nextmv_account_queue_starts_late:increase1h
          {{ printf $unlessClockOff "1h" }}
        for: {{ $t.serviceLevelUnknownFor }}
        labels: {severity: warning}
        annotations:
          summary: 'Nextmv {{ $account }}: whether runs of {{ $class }} start within {{ $level }} is not measured'
          description: 'Choose a time from --queue.wait-buckets, or scrape classic histograms. See the waits so far: `{{ $queue }} {{ $ofClass }}`'{{ include "nextmv-exporter.links" (list "NextmvServiceLevelUnknown" $settings) }}

  - name: nextmv-exporter.exporter
    rules:
      # An average, since an exporter that crashes again and again is up at times, and since one
      # failed scrape is none. And it is still a target: a range also has what is gone.
      - alert: NextmvExporterDown
        expr: |
          avg_over_time(up{job=~{{ $settings.jobRegex | quote }}}[{{ $gap }}]) < 0.5 and up
        for: {{ $t.exporterDownFor }}
        labels: {severity: critical}
        annotations:
          summary: 'Nextmv queues are not monitored: Prometheus cannot scrape {{ "{{ $labels.instance }}" }}'
          description: 'Unless another exporter monitors the same accounts, no alert on their queues can fire. See the error on the page of targets in Prometheus, then the log of the exporter.'{{ include "nextmv-exporter.links" (list "NextmvExporterDown" $settings) }}

      # A job that had targets within the last day, or that none is known at all.
      - alert: NextmvExporterAbsent
        expr: |
          group by (job, namespace, cluster) (present_over_time(up{job=~{{ $settings.jobRegex | quote }}}[{{ $t.vanishedWithin }}]))
          unless on (job, namespace, cluster) up
          or on () absent(up{job=~{{ $settings.jobRegex | quote }}})
        for: {{ $t.exporterAbsentFor }}
        labels: {severity: critical}
        annotations:
          summary: 'Nextmv queues are not monitored: Prometheus has no target for nextmv-exporter'
          description: 'See why on the page of service discovery in Prometheus. This alert ends {{ $t.vanishedWithin }} after the last target of the job.'{{ include "nextmv-exporter.links" (list "NextmvExporterAbsent" $settings) }}

      # The best target counts: one that has just moved has few samples.
      - alert: NextmvScrapeIntervalTooLong
        expr: |
          1200 / {{ $once }} (count_over_time(up{job=~{{ $settings.jobRegex | quote }}}[20m])) > 150
        for: 20m
        labels: {severity: warning}
        annotations:
          summary: 'Nextmv queues are monitored too rarely: Prometheus scrapes them about every {{ $duration }}'
          description: 'Alerts come late, and starts are missed. Set the scrape interval of this job to a minute or less.'{{ include "nextmv-exporter.links" (list "NextmvScrapeIntervalTooLong" $settings) }}

      # One alert for all accounts of a job: they share the clock.
      - alert: NextmvExporterClockOff
        expr: max without (account) (last_over_time(account:nextmv_api_clock_offset_seconds:max[{{ $gap }}])) > 30
        for: 10m
        labels: {severity: warning}
        annotations:
          summary: 'Nextmv queues are monitored in part: the clock of the exporter is off by {{ $duration }}'
          description: 'Ages and waits are wrong, and alerts on them are silent until the clock is right. See its time where the exporter runs: `date -u`'{{ include "nextmv-exporter.links" (list "NextmvExporterClockOff" $settings) }}
