// The shapes of /api/v1 answers that the pages use. `*_unix_nano` are decimal strings of epoch nanoseconds.

export interface Problem {
  kind: string;
  what: string;
  message: string;
}

export interface Coverage {
  start_unix_nano: string;
  end_unix_nano: string;
  blocks_total: number;
  blocks_read: number;
  blocks_pruned: number;
  bytes_read: number;
  store_gets: number;
  store_bytes: number;
  head_rows: number;
  rows_matched_at_least: number;
  complete: boolean;
  problems: Problem[];
  /** How many more there were than are told. */
  further_problems?: number;
}

export type Leaf = string | number | boolean | null;

export interface LogHit {
  id: string;
  time: string;
  time_unix_nano: string;
  observed_time: string | null;
  trace_id: string | null;
  xray_trace_id: string | null;
  span_id: string | null;
  severity: string;
  severity_text: string | null;
  service_name: string | null;
  event_name: string | null;
  body: string;
  body_truncated: boolean;
  scope_name: string | null;
  log_group: string | null;
  log_stream: string | null;
  attributes: Record<string, string>;
  resource_attributes: Record<string, string>;
  fields: Record<string, Leaf | Leaf[]>;
}

export interface SpanEvent {
  time_unix_nano: string;
  name: string;
  attributes: Record<string, string>;
}

export interface SpanHit {
  id: string;
  time: string;
  start_time_unix_nano: string;
  duration_nano: number;
  trace_id: string;
  xray_trace_id: string;
  span_id: string;
  parent_span_id: string | null;
  name: string;
  kind: string;
  status_code: string;
  status_message: string | null;
  is_root: boolean;
  in_progress: boolean;
  service_name: string | null;
  attributes: Record<string, string>;
  resource_attributes: Record<string, string>;
  events: SpanEvent[];
  links: { trace_id: string; span_id: string; attributes: Record<string, string> }[];
  /** Only in the answer about one span. */
  logs?: LogHit[];
}

export interface Histogram {
  start_unix_nano: string;
  end_unix_nano: string;
  bucket_nanos: string;
  series: string[];
  buckets: { start_unix_nano: string; counts: number[] }[];
  total: number;
  coverage: Coverage;
  took_ms: number;
}

export interface Facet {
  field: string;
  values: { value: string; count: number }[];
  missing: number;
  truncated: boolean;
}

export interface Facets {
  facets: Facet[];
  coverage: Coverage;
  took_ms: number;
}

export interface TraceColumns {
  trace_id: string;
  xray_trace_id: string;
  start_unix_nano: string;
  duration_nano: number;
  services: string[];
  n_spans: number;
  n_logs: number;
  n_errors: number;
  spans: {
    span_id: string[];
    parent: number[];
    depth: number[];
    start_offset_nano: number[];
    duration_nano: number[];
    service: number[];
    name: string[];
    kind: string[];
    status_code: string[];
    n_logs: number[];
    missing_parent: boolean[];
    skewed: boolean[];
    in_progress: boolean[];
  };
  logs: {
    id: string[];
    time_unix_nano: string[];
    offset_nano: number[];
    span: number[];
    severity: string[];
    /** A name, or an index into `services`. */
    service: (string | number | null)[];
    body: string[];
  };
  coverage: Coverage;
  took_ms: number;
}

/** A trace of a list: names as in the table `traces`. */
export interface TraceSummary {
  trace_id: string;
  time_unix_nano: string;
  duration_nano: number;
  root_service: string | null;
  root_name: string | null;
  has_error: boolean;
  has_fault: boolean;
  is_partial: boolean;
  error_count: number;
  missing_parents: number;
}

export interface TraceList {
  traces: TraceSummary[];
  next_cursor: string | null;
  coverage: Coverage;
  took_ms: number;
}

export interface AlertNotification {
  time_unix_nano: string;
  channel: string;
  target: string;
  subject: string;
  status: 'pending' | 'delivered' | 'failed';
  attempts: number;
  error: string | null;
}

export type AlertStateName = 'firing' | 'pending' | 'resolved' | 'inactive';

export interface Alert {
  id: string;
  rule: string;
  group_key: string;
  state: AlertStateName;
  since_unix_nano: string | null;
  value: number | string | null;
  threshold: number | string | null;
  summary: string;
  query: string;
  severity: string;
  last_evaluated_unix_nano: string | null;
  fired_at_unix_nano: string | null;
  resolved_at_unix_nano: string | null;
  link: string;
  notifications: AlertNotification[];
  samples: LogHit[];
  error: string | null;
  /** When the rule fires, in words. */
  condition?: string;
  /** Why it was or was not told. */
  reason?: string;
  description?: string | null;
  runbook?: string | null;
  /** A path of these pages. */
  trace_link?: string | null;
}

export interface Rule {
  name: string;
  type: string;
  query: string;
  interval: string;
  every: string;
  error: string | null;
}

export interface Alerts {
  alerts: Alert[];
  rules: Rule[];
}
