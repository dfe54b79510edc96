{{- /*
The source of the recording and alerting rules. The chart renders it into a PrometheusRule, and
`make dashboards` renders it at its defaults into grafana/alerts/nextmv-exporter.rules.yaml.
*/ -}}
{{- $settings := .Values.prometheusRule -}}
{{- $t := $settings.thresholds -}}

{{- /* What Prometheus fills in. */ -}}
{{- $class := "{{ $labels.execution_class }}" -}}
{{- $account := "account {{ $labels.account }}" -}}
{{- $where := "{{ with $labels.job }}job {{ . }}{{ end }}{{ with $labels.namespace }}, namespace {{ . }}{{ end }}{{ with $labels.cluster }}, cluster {{ . }}{{ end }}" -}}
{{- $count := `{{ $value | printf "%.0f" }}` -}}
{{- $duration := "{{ $value | humanizeDuration }}" -}}
{{- $reason := `{{ with printf "topk(1, account:nextmv_scrape_errors:rate{account=%q, job=%q, namespace=%q, cluster=%q} > 0)" $labels.account $labels.job $labels.namespace $labels.cluster | query }}{{ . | first | label "reason" }}{{ else }}unknown{{ end }}` -}}

{{- /* Classes with settings of their own. */ -}}
{{- $ownWindow := keys $t.notStartingForByClass | sortAlpha | join "|" -}}
{{- $ownLevel := keys $t.serviceLevelSecondsByClass | sortAlpha | join "|" -}}
{{- $ownShare := keys $t.serviceLevelShareByClass | sortAlpha | join "|" -}}

# Aggregations are `without` labels, so that job, namespace, cluster and whatever
# else distinguishes two environments stays. Without `instance` and `pod` a series
# outlives a restarted pod, and an account that two replicas watch counts once. What
# compares with the last day is by job, namespace, cluster and account alone, since
# other labels of a target change. A group holds all that depends on each other,
# since groups are evaluated in any order.
groups:
  - name: nextmv-exporter.queue
    rules:
      - record: execution_class:nextmv_account_queue_length:sum
        expr: max without (instance, pod) (sum without (application_id) (nextmv_account_queue_length))

      - record: execution_class:nextmv_account_queue_oldest_queued_run_age_seconds:max
        expr: max without (application_id, instance, pod) (nextmv_account_queue_oldest_queued_run_age_seconds)

      - record: execution_class:nextmv_account_queue_runs_started:rate
        expr: max without (instance, pod) (sum without (application_id) (rate(nextmv_account_queue_runs_started_total[{{ $t.rateWindow }}])))

      # A class's name ends in the longest run time, such as 870s, 120m or 12h. While a
      # class is at its limit, that long may pass until a run starts. So classes of
      # more than 45 minutes have bounds of their own, in seconds, each a little longer
      # than run times of up to 3, 12 or 24 hours.
      - record: execution_class:nextmv_execution_class:seen
        expr: |
          group by (execution_class) (
            last_over_time(nextmv_account_queue_length[{{ $t.gapTolerance }}])
            or last_over_time(nextmv_account_queue_runs_started_total[{{ $t.gapTolerance }}])
          )

      - record: execution_class:nextmv_longest_run_seconds:bound
        expr: |
          execution_class:nextmv_execution_class:seen{execution_class=~"(.*[^0-9])?((270[1-9]|27[1-9][0-9]|2[89][0-9]{2}|[3-9][0-9]{3}|10[0-7][0-9]{2}|10800)s|(4[6-9]|[5-9][0-9]|1[0-7][0-9]|180)m|[1-3]h)"} * 12000
          or
          execution_class:nextmv_execution_class:seen{execution_class=~"(.*[^0-9])?((1080[1-9]|108[1-9][0-9]|109[0-9]{2}|1[1-9][0-9]{3}|[23][0-9]{4}|4[0-2][0-9]{3}|43[01][0-9]{2}|43200)s|(18[1-9]|19[0-9]|[2-6][0-9]{2}|7[01][0-9]|720)m|([4-9]|1[0-2])h)"} * 46800
          or
          execution_class:nextmv_execution_class:seen{execution_class=~"(.*[^0-9])?((4320[1-9]|432[1-9][0-9]|43[3-9][0-9]{2}|4[4-9][0-9]{3}|[5-9][0-9]{4}|[0-9]{6,})s|(72[1-9]|7[3-9][0-9]|[89][0-9]{2}|[0-9]{4,})m|(1[3-9]|[2-9][0-9]|[0-9]{3,})h|[0-9]+d)"} * 90000

      # No series of running runs means none, as in a class that has just appeared.
      # `last_over_time` covers failed scrapes.
      - alert: NextmvQueueStalled
        expr: |
          last_over_time(execution_class:nextmv_account_queue_length:sum{status_v2="queued"}[{{ $t.gapTolerance }}]) > 0
          unless ignoring (status_v2)
          last_over_time(execution_class:nextmv_account_queue_length:sum{status_v2="running"}[{{ $t.gapTolerance }}]) > 0
        for: {{ $t.stalledFor }}
        labels:
          severity: critical
        annotations:
          summary: >-
            Nextmv {{ $account }}: runs of {{ $class }} are queued and none is running
          description: >-
            {{ $count }} runs of {{ $class }} are queued in {{ $account }} ({{ $where }}), and none
            has been running for {{ $t.stalledFor }}. Next step: list the oldest runs with
            `nextmv-queue --status queued --execution-class {{ $class }}`, and see whether Nextmv
            reports an incident.
          {{- include "nextmv-exporter.links" (list "NextmvQueueStalled" $settings) }}

      - record: execution_class:nextmv_account_queue_length:not_starting
        expr: |
          last_over_time(execution_class:nextmv_account_queue_length:sum{status_v2="queued"}[{{ $t.gapTolerance }}]) > 0
          unless ignoring (status_v2)
          execution_class:nextmv_account_queue_runs_started:rate > 0

      {{- $default := printf `execution_class:nextmv_account_queue_length:not_starting{execution_class!~"%s"}` $ownWindow }}
      {{- $bound := "execution_class:nextmv_longest_run_seconds:bound" }}
      {{- $alerts := list
            (dict "window" $t.notStartingFor "expr" (printf "%s unless on (execution_class) %s" $default $bound))
            (dict "window" "3h20m" "expr" (printf "%s and on (execution_class) %s == 12000" $default $bound))
            (dict "window" "13h" "expr" (printf "%s and on (execution_class) %s == 46800" $default $bound))
            (dict "window" "25h" "expr" (printf "%s and on (execution_class) %s == 90000" $default $bound)) }}
      {{- range $name, $window := $t.notStartingForByClass }}
      {{- $expr := printf `execution_class:nextmv_account_queue_length:not_starting{execution_class="%s"}` $name }}
      {{- $alerts = append $alerts (dict "window" $window "expr" $expr "class" $name) }}
      {{- end }}
      {{- range $alerts }}

      - alert: NextmvRunsNotStarting
        expr: {{ .expr }}
        for: {{ .window }}
        labels:
          severity: critical
          window: {{ .window }}
          {{- with .class }}
          execution_class: {{ . | quote }}
          {{- end }}
        annotations:
          summary: >-
            Nextmv {{ $account }}: no run of {{ $class }} has started for {{ .window }}
          description: >-
            {{ $count }} runs of {{ $class }} are queued in {{ $account }} ({{ $where }}), and none
            has started for {{ .window }}. Next step: list the runs that hold the class with
            `nextmv-queue --status running --execution-class {{ $class }}`, and cancel those that
            hang.
          {{- include "nextmv-exporter.links" (list "NextmvRunsNotStarting" $settings) }}
      {{- end }}

      # An execution class with a threshold of its own has it as a series. With
      # plain files, add one rule like this per class to a file of your own:
      #   - record: execution_class:nextmv_oldest_queued_run_age_seconds:threshold
      #     expr: vector(7200)
      #     labels:
      #       execution_class: 16c60gb12h
      {{- range $name, $seconds := $t.oldestQueuedSecondsByClass }}
      - record: execution_class:nextmv_oldest_queued_run_age_seconds:threshold
        expr: vector({{ $seconds }})
        labels:
          execution_class: {{ $name | quote }}
      {{- end }}

      - alert: NextmvOldestQueuedRunTooOld
        expr: |
          last_over_time(execution_class:nextmv_account_queue_oldest_queued_run_age_seconds:max[{{ $t.gapTolerance }}])
          > on (execution_class) group_left ()
          max by (execution_class) (execution_class:nextmv_oldest_queued_run_age_seconds:threshold)
          or
          (
            last_over_time(execution_class:nextmv_account_queue_oldest_queued_run_age_seconds:max[{{ $t.gapTolerance }}])
            > on (execution_class) group_left ()
            execution_class:nextmv_longest_run_seconds:bound
            or
            (
              last_over_time(execution_class:nextmv_account_queue_oldest_queued_run_age_seconds:max[{{ $t.gapTolerance }}])
              unless on (execution_class)
              execution_class:nextmv_longest_run_seconds:bound
            )
            > {{ $t.oldestQueuedSeconds }}
          )
          unless on (execution_class)
          execution_class:nextmv_oldest_queued_run_age_seconds:threshold
        for: {{ $t.oldestQueuedFor }}
        keep_firing_for: {{ $t.keepFiringFor }}
        labels:
          severity: warning
        annotations:
          summary: >-
            Nextmv {{ $account }}: a run of {{ $class }} has waited for {{ $duration }}
          description: >-
            The oldest queued run of {{ $class }} in {{ $account }} ({{ $where }}) has waited for
            {{ $duration }}, longer than its execution class should make anyone wait. Next step: see
            which run it is with `nextmv-queue --status queued --execution-class {{ $class }}`.
          {{- include "nextmv-exporter.links" (list "NextmvOldestQueuedRunTooOld" $settings) }}

      # The service level: the share of runs that start in time. Runs that never start
      # are not counted: for them there are the alerts above. First counters, as the
      # exporter's: starts that came too late, and as many of all starts as may. A class
      # whose runs may take more than three hours has no service level unless it is
      # given one.
      - record: instance:nextmv_account_queue_starts_late:total
        expr: |
          (
            nextmv_account_queue_start_wait_seconds_count{execution_class!~"{{ $ownLevel }}"}
            - sum without (le) (nextmv_account_queue_start_wait_seconds_bucket{le=~"{{ $t.serviceLevelSeconds }}([.]0)?"})
          )
          unless on (execution_class) execution_class:nextmv_longest_run_seconds:bound > 12000
          {{- range $name, $seconds := $t.serviceLevelSecondsByClass }}
          or
          nextmv_account_queue_start_wait_seconds_count{execution_class={{ $name | quote }}}
          - sum without (le) (nextmv_account_queue_start_wait_seconds_bucket{execution_class={{ $name | quote }}, le=~"{{ $seconds }}([.]0)?"})
          {{- end }}

      - record: instance:nextmv_account_queue_starts_late_allowed:total
        expr: |
          nextmv_account_queue_start_wait_seconds_count{execution_class!~"{{ $ownShare }}"} * (1 - {{ $t.serviceLevelShare }})
          {{- range $name, $share := $t.serviceLevelShareByClass }}
          or
          nextmv_account_queue_start_wait_seconds_count{execution_class={{ $name | quote }}} * (1 - {{ $share }})
          {{- end }}

      # How many times as fast as allowed. From 1 on the service level is missed.
      {{- $burns := list
            (list "fast" $t.fastBurnWindow) (list "fast_short" $t.fastBurnShortWindow)
            (list "medium" $t.mediumBurnWindow) (list "medium_short" $t.mediumBurnShortWindow)
            (list "slow" $t.slowBurnWindow) (list "slow_short" $t.slowBurnShortWindow) }}
      {{- range $burns }}

      - record: execution_class:nextmv_account_queue_starts_late:burn_{{ first . }}
        expr: |
          sum without (instance, pod) (increase(instance:nextmv_account_queue_starts_late:total[{{ last . }}]))
          / sum without (instance, pod) (increase(instance:nextmv_account_queue_starts_late_allowed:total[{{ last . }}]))
      {{- end }}

      - alert: NextmvServiceLevelFastBurn
        expr: |
          round(sum without (instance, pod) (increase(instance:nextmv_account_queue_starts_late:total[{{ $t.fastBurnWindow }}]))) >= {{ $t.serviceLevelMinimumLate }}
          and execution_class:nextmv_account_queue_starts_late:burn_fast > {{ $t.fastBurnFactor }}
          and execution_class:nextmv_account_queue_starts_late:burn_fast_short > {{ $t.fastBurnFactor }}
          or
          round(sum without (instance, pod) (increase(instance:nextmv_account_queue_starts_late:total[{{ $t.mediumBurnWindow }}]))) >= {{ $t.serviceLevelMinimumLate }}
          and execution_class:nextmv_account_queue_starts_late:burn_medium > {{ $t.mediumBurnFactor }}
          and execution_class:nextmv_account_queue_starts_late:burn_medium_short > {{ $t.mediumBurnFactor }}
        keep_firing_for: {{ $t.keepFiringFor }}
        labels:
          severity: critical
        annotations:
          summary: >-
            Nextmv {{ $account }}: many runs of {{ $class }} start late
          description: >-
            {{ $count }} runs of {{ $class }} in {{ $account }} ({{ $where }}) have waited for longer
            than their service level allows, within {{ $t.fastBurnWindow }} or
            {{ $t.mediumBurnWindow }}, and more do. Next step: see who fills the queue with
            `nextmv-queue --execution-class {{ $class }} --limit 0`.
          {{- include "nextmv-exporter.links" (list "NextmvServiceLevelFastBurn" $settings) }}

      - alert: NextmvServiceLevelSlowBurn
        expr: |
          round(sum without (instance, pod) (increase(instance:nextmv_account_queue_starts_late:total[{{ $t.slowBurnWindow }}]))) >= {{ $t.serviceLevelMinimumLate }}
          and execution_class:nextmv_account_queue_starts_late:burn_slow > {{ $t.slowBurnFactor }}
          and execution_class:nextmv_account_queue_starts_late:burn_slow_short > {{ $t.slowBurnFactor }}
        keep_firing_for: {{ $t.keepFiringFor }}
        labels:
          severity: warning
        annotations:
          summary: >-
            Nextmv {{ $account }}: too many runs of {{ $class }} start late
          description: >-
            {{ $count }} runs of {{ $class }} in {{ $account }} ({{ $where }}) have waited for longer
            than their service level allows, within {{ $t.slowBurnWindow }}, and more do. Next step:
            see on the dashboard when they arrive and which application they belong to.
          {{- include "nextmv-exporter.links" (list "NextmvServiceLevelSlowBurn" $settings) }}

      # The time must be one of the histogram's buckets, and these be scraped.
      - alert: NextmvServiceLevelUnknown
        expr: |
          (
            group without (application_id, instance, pod) (nextmv_account_queue_runs_started_total{execution_class!~"{{ $ownLevel }}"})
            unless on (execution_class) execution_class:nextmv_longest_run_seconds:bound > 12000
            {{- with $ownLevel }}
            or group without (application_id, instance, pod) (nextmv_account_queue_runs_started_total{execution_class=~"{{ . }}"})
            {{- end }}
          )
          unless group without (instance, pod) (instance:nextmv_account_queue_starts_late:total)
        for: {{ $t.serviceLevelUnknownFor }}
        labels:
          severity: warning
        annotations:
          summary: >-
            Nextmv {{ $account }}: whether runs of {{ $class }} start in time is not measured
          description: >-
            nextmv_account_queue_start_wait_seconds_bucket of {{ $class }} in {{ $account }}
            ({{ $where }}) has no bucket at the time of the service level. Next step: choose a time
            from `--queue.wait-buckets`, or scrape classic histograms.
          {{- include "nextmv-exporter.links" (list "NextmvServiceLevelUnknown" $settings) }}

  - name: nextmv-exporter.account
    rules:
      - record: account:nextmv_up:max
        expr: max without (instance, pod) (nextmv_up)

      # The share of time in which the account was readable.
      - record: account:nextmv_up:avg
        expr: avg_over_time(account:nextmv_up:max[{{ $t.errorWindow }}])

      - record: account:nextmv_scrape_errors:rate
        expr: sum without (instance, pod) (rate(nextmv_scrape_errors_total[{{ $t.errorWindow }}]))

      # Most scrapes fail, and most of those for the key.
      - alert: NextmvAccountAuthFailed
        expr: |
          account:nextmv_up:avg < 0.5
          and ignoring (reason)
          account:nextmv_scrape_errors:rate{reason="auth"}
          > ignoring (reason)
          0.5 * sum without (reason) (account:nextmv_scrape_errors:rate)
        for: {{ $t.authFailedFor }}
        labels:
          severity: critical
        annotations:
          summary: >-
            Nextmv {{ $account }}: the API key is rejected, its queue is not monitored
          description: >-
            Nextmv has rejected the API key of {{ $account }} ({{ $where }}) with 401 or 403 for
            {{ $t.authFailedFor }}. Alerts on its queue cannot fire. Next step: give the exporter a
            valid key, and check it with `nextmv-queue --limit 1`.
          {{- include "nextmv-exporter.links" (list "NextmvAccountAuthFailed" $settings) }}

      - alert: NextmvAccountUnreadable
        expr: |
          account:nextmv_up:avg < 0.5
          unless ignoring (reason)
          account:nextmv_scrape_errors:rate{reason="auth"}
          > ignoring (reason)
          0.5 * sum without (reason) (account:nextmv_scrape_errors:rate)
        for: {{ $t.unreadableFor }}
        labels:
          severity: critical
        annotations:
          summary: >-
            Nextmv {{ $account }}: the queue cannot be read ({{ $reason }}), it is not monitored
          description: >-
            Most scrapes of {{ $account }} ({{ $where }}) have failed for {{ $t.unreadableFor }}, most
            of them with reason {{ $reason }}. Alerts on its queue cannot fire until then. Next step:
            read the error on the exporter's status page, and look up the reason in the runbook.
          {{- include "nextmv-exporter.links" (list "NextmvAccountUnreadable" $settings) }}

      # One replica cannot read what others can, or one target only at times, as where a
      # Service leads it to replicas of which one has another key: half of the scrapes
      # then succeed. For as long again, so that an outage that is over does not count.
      - alert: NextmvAccountPartlyUnreadable
        expr: |
          avg_over_time(nextmv_up[{{ $t.partlyUnreadableFor }}]) < 0.75
          and last_over_time(nextmv_up[{{ $t.gapTolerance }}])
          and on (job, namespace, cluster, account)
          avg_over_time(account:nextmv_up:max[{{ $t.partlyUnreadableFor }}]) > 0.48
        for: {{ $t.partlyUnreadableFor }}
        labels:
          severity: warning
        annotations:
          summary: >-
            Nextmv {{ $account }}: {{ "{{ $labels.instance }}" }} often cannot read the queue
          description: >-
            Many scrapes of {{ $account }} at {{ "{{ $labels.instance }}{{ with $labels.pod }}, pod {{ . }}{{ end }}" }}
            ({{ $where }}) have failed for {{ $t.partlyUnreadableFor }}, while the account can be
            read otherwise. Next step: compare the replicas' errors on their status pages, and
            their keys.
          {{- include "nextmv-exporter.links" (list "NextmvAccountPartlyUnreadable" $settings) }}

      # An account that is gone while its exporter is not. Other labels of a target, such
      # as the node, may change. An account is not missed while all targets that are
      # left of those that reported it are down. Ends by itself, since it may have been
      # removed on purpose.
      - alert: NextmvAccountVanished
        expr: |
          max by (job, namespace, cluster, account) (last_over_time(nextmv_up[{{ $t.vanishedWithin }}]))
          unless on (job, namespace, cluster, account) nextmv_up
          unless on (job, namespace, cluster, account)
          max by (job, namespace, cluster, account) (
            last_over_time(nextmv_up[{{ $t.vanishedWithin }}]) * 0
            + on (job, namespace, cluster, instance) group_left ()
            max by (job, namespace, cluster, instance) (up)
          ) == 0
          and on (job, namespace, cluster) up == 1
        for: {{ $t.vanishedFor }}
        labels:
          severity: critical
        annotations:
          summary: >-
            Nextmv {{ $account }}: the exporter no longer monitors it
          description: >-
            The exporter ({{ $where }}) has reported no metrics of {{ $account }} for
            {{ $t.vanishedFor }}. Next step: unless it was removed on purpose, restore its profile or
            its key. This alert ends {{ $t.vanishedWithin }} after the last metrics.
          {{- include "nextmv-exporter.links" (list "NextmvAccountVanished" $settings) }}

      # Where most scrapes fail, the account is unreadable.
      - alert: NextmvApiRateLimited
        expr: |
          account:nextmv_up:avg >= 0.5
          and ignoring (reason)
          account:nextmv_scrape_errors:rate{reason="rate_limited"} > 0
        for: {{ $t.rateLimitedFor }}
        labels:
          severity: warning
        annotations:
          summary: >-
            Nextmv {{ $account }}: the API limits the rate of requests
          description: >-
            Scrapes of {{ $account }} ({{ $where }}) fail again and again, since the API responds
            with 429. Next step: scrape less often, or find out who else uses the same key.
          {{- include "nextmv-exporter.links" (list "NextmvApiRateLimited" $settings) }}

      - alert: NextmvMalformedRuns
        expr: max without (instance, pod) (nextmv_account_queue_malformed_runs) > {{ $t.malformedRuns }}
        for: {{ $t.malformedFor }}
        keep_firing_for: {{ $t.keepFiringFor }}
        labels:
          severity: warning
        annotations:
          summary: >-
            Nextmv {{ $account }}: the queue holds malformed runs
          description: >-
            {{ $count }} runs in {{ $account }} ({{ $where }}) have a missing or invalid field, and
            are counted as far as they are known. Next step: look at them with
            `nextmv-queue --json --limit 0`.
          {{- include "nextmv-exporter.links" (list "NextmvMalformedRuns" $settings) }}

      - alert: NextmvGroupsFolded
        expr: max without (instance, pod) (nextmv_account_queue_folded_groups) > {{ $t.foldedGroups }}
        for: {{ $t.foldedFor }}
        keep_firing_for: {{ $t.keepFiringFor }}
        labels:
          severity: info
        annotations:
          summary: >-
            Nextmv {{ $account }}: applications are folded together
          description: >-
            {{ $count }} label groups of {{ $account }} ({{ $where }}) are reported under
            application_id="__other__", since there are more than --queue.max-groups. Next step:
            raise that flag if Prometheus can store more series.
          {{- include "nextmv-exporter.links" (list "NextmvGroupsFolded" $settings) }}

  - name: nextmv-exporter.exporter
    rules:
      # An average, since an exporter that crashes again and again is up at times.
      - alert: NextmvExporterDown
        # And it is still a target: a range also has what is gone.
        expr: |
          avg_over_time(up{job=~{{ $settings.jobRegex | quote }}}[{{ $t.exporterDownFor }}]) < 0.5
          and up
        for: {{ $t.exporterDownFor }}
        labels:
          severity: critical
        annotations:
          summary: >-
            Prometheus cannot scrape nextmv-exporter at {{ "{{ $labels.instance }}" }}
          description: >-
            Scrapes of {{ "{{ $labels.instance }}" }} ({{ $where }}) have failed for
            {{ $t.exporterDownFor }}. Unless another exporter monitors the same accounts, alerts on
            their queues cannot fire. Next step:
            see the error on Prometheus's page of targets, then the exporter's log.
          {{- include "nextmv-exporter.links" (list "NextmvExporterDown" $settings) }}

      # A job that had targets within the last day, or that none is known at all.
      - alert: NextmvExporterAbsent
        expr: |
          group by (job, namespace, cluster) (present_over_time(up{job=~{{ $settings.jobRegex | quote }}}[{{ $t.vanishedWithin }}]))
          unless on (job, namespace, cluster) up
          or on () absent(up{job=~{{ $settings.jobRegex | quote }}})
        for: {{ $t.exporterAbsentFor }}
        labels:
          severity: critical
        annotations:
          summary: >-
            Prometheus has no target for nextmv-exporter{{ "{{ with $labels.job }} in job {{ . }}{{ end }}" }}
          description: >-
            There is no target ({{ "{{ if $labels.job }}" }}{{ $where }}{{ "{{ else }}" }}no job matches {{ $settings.jobRegex }}{{ "{{ end }}" }}).
            The Nextmv queues are not monitored. Next step: see Prometheus's page of service discovery.
          {{- include "nextmv-exporter.links" (list "NextmvExporterAbsent" $settings) }}
