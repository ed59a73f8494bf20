// What the page of traces lists: traces as the server sums them up, or single spans. Both are rows of one form.

import { getJson, streamHits } from '../api/client';
import type { Coverage, SpanHit, TraceList, TraceSummary } from '../api/types';
import { plural } from '../text/number';

/** Traces are put together from all their spans to be summed up, spans are only read. */
const TRACES_PAGE = 100;
const SPANS_PAGE = 200;

export interface Row {
  key: string;
  trace: string;
  /** The span that a row of a single span opens. */
  span: string;
  startNanos: string;
  /** Nanoseconds. */
  length: number;
  service: string;
  name: string;
  /** What failed, in words; empty if nothing did. */
  failed: string;
  inProgress: boolean;
  missingParent: boolean;
}

export interface Page {
  rows: Row[];
  cursor: string | null;
  coverage: Coverage;
}

export interface Asked {
  kind: 'roots' | 'all';
  q: string;
  start: string;
  end: string;
}

export const rowOfTrace = (t: TraceSummary): Row => ({
  key: t.trace_id, trace: t.trace_id, span: '', startNanos: t.time_unix_nano, length: t.duration_nano, service: t.root_service ?? '', name: t.root_name ?? '',
  failed: t.error_count > 0 ? `${plural(t.error_count, 'span')} failed` : t.has_fault || t.has_error ? 'Failed' : '', inProgress: t.is_partial, missingParent: t.missing_parents > 0,
});

export const rowOfSpan = (h: SpanHit): Row => ({
  key: h.id, trace: h.trace_id, span: h.span_id, startNanos: h.start_time_unix_nano, length: h.duration_nano, service: h.service_name ?? '', name: h.name,
  failed: h.status_code === 'ERROR' ? (h.status_message || 'Error') : '', inProgress: h.in_progress, missingParent: false,
});

/** One page. Of traces, an answer may be empty and yet have a cursor (no index knew the condition): then it is followed to the first trace, or to the end. */
export async function fetchPage(asked: Asked, cursor: string | null, abort: AbortSignal): Promise<Page> {
  const params = { q: asked.q, start: asked.start, end: asked.end, cursor: cursor ?? undefined };
  if (asked.kind === 'all') {
    const rows: Row[] = [];
    const t = await streamHits<SpanHit>({ ...params, table: 'spans', limit: SPANS_PAGE }, abort, (hits) => { for (const h of hits) rows.push(rowOfSpan(h)); });
    return { rows, cursor: t.next_cursor, coverage: t.coverage };
  }
  let answer = await getJson<TraceList>('traces', { ...params, limit: TRACES_PAGE }, abort);
  let lacking = answer.coverage.complete ? null : answer.coverage;
  while (answer.traces.length === 0 && answer.next_cursor) {
    // A cursor is of the range that was asked for first: "the last hour" moves on.
    const range = { start: answer.coverage.start_unix_nano, end: answer.coverage.end_unix_nano };
    answer = await getJson<TraceList>('traces', { ...params, ...range, cursor: answer.next_cursor, limit: TRACES_PAGE }, abort);
    if (!answer.coverage.complete) lacking ??= answer.coverage;
  }
  return { rows: answer.traces.map(rowOfTrace), cursor: answer.next_cursor, coverage: lacking ?? answer.coverage };
}

/** How many spans of the range meet the query, whenever their traces began. */
export async function countSpans(asked: Asked, abort: AbortSignal): Promise<number> {
  return (await getJson<{ count: number }>('count', { table: 'spans', q: asked.q, start: asked.start, end: asked.end }, abort)).count;
}
