// What a search found, kept apart from what the page shows of it: a new run replaces the old lines only once it has lines of its own,
// and each history entry keeps its result, so that going back restores it without asking again.

import { type Signal, batch, signal } from '@preact/signals';
import { type ApiError, explain, getJson, streamHits } from '../api/client';
import type { Coverage, Facets, Histogram, LogHit } from '../api/types';
import type { SearchState } from '../state/url';
import { compose } from '../text/query';
import { forApi } from '../text/time';

export const FACET_FIELDS = 'severity,service_name,aws_log_group';
/** Bytes of a body in the list; the panel loads the whole. */
const MAX_BODY = 2048;
const FIRST_PAGE = 200;
const NEXT_PAGE = 500;
/** History entries whose results stay in memory. */
const KEPT_ENTRIES = 12;

export interface Results {
  key: string;
  query: string;
  hits: Signal<LogHit[]>;
  cursor: Signal<string | null>;
  coverage: Signal<Coverage | null>;
  tookMs: Signal<number>;
  histogram: Signal<Histogram | null>;
  facets: Signal<Facets | null>;
  /** Whether older lines are on their way, or why they are not. */
  more: Signal<'idle' | 'loading' | ApiError>;
  /** All lines of the first page have arrived. */
  settled: Signal<boolean>;
}

/** What is on the page; null until the first answer. */
export const shown = signal<Results | null>(null);
export const running = signal(false);
export const failure = signal<ApiError | null>(null);
/** Facets and histogram may fail alone; the lines stay. */
export const sideFailure = signal<ApiError | null>(null);

interface Kept {
  results: Results;
  scrollTop: number;
}

const kept = new Map<string, Kept>();
let abort = new AbortController();
let current = '';

export const runKey = (s: SearchState): string => JSON.stringify([compose(s.q, s.f).query, s.from, s.to]);

export function rememberScroll(entry: string, scrollTop: number): void {
  const there = kept.get(entry);
  if (there) there.scrollTop = scrollTop;
}

function keep(entry: string, results: Results, scrollTop: number): void {
  kept.delete(entry);
  kept.set(entry, { results, scrollTop });
  for (const oldest of kept.keys()) {
    if (kept.size <= KEPT_ENTRIES) break;
    kept.delete(oldest);
  }
}

/** Makes the page show what this history entry is about; answers the scroll position to restore, or null to stay. */
export function enter(entry: string, state: SearchState, scrollTop: number): number | null {
  const key = runKey(state);
  const there = kept.get(entry);
  if (there && there.results.key === key && there.results.settled.value) {
    if (shown.value !== there.results) {
      abort.abort();
      batch(() => {
        shown.value = there.results;
        failure.value = null;
        running.value = false;
      });
      abort = new AbortController();
      // One left the page before its counts came.
      if (!there.results.histogram.value || !there.results.facets.value) refreshCounts(state);
    }
    current = key;
    return there.scrollTop;
  }
  if (current === key && (running.value || shown.value?.key === key)) {
    if (shown.value) keep(entry, shown.value, scrollTop);
    return null;
  }
  run(entry, state);
  return 0;
}

/** Leaves the page: closing the connections stops the server's work. */
export function leave(): void {
  abort.abort();
  running.value = false;
  current = '';
}

/** Asks for lines, histogram and facets at once. */
export function run(entry: string, state: SearchState): void {
  abort.abort();
  abort = new AbortController();
  const mine = abort.signal;
  const key = runKey(state);
  current = key;
  const { query } = compose(state.q, state.f);
  const range = { q: query, start: forApi(state.from), end: forApi(state.to) };
  const results: Results = {
    key, query, hits: signal([]), cursor: signal(null), coverage: signal(null), tookMs: signal(0), histogram: signal(null), facets: signal(null),
    more: signal('idle'), settled: signal(false),
  };
  // Until the new lines come, the old histogram and facets stay with the old lines.
  const show = (): void => {
    if (mine.aborted || shown.value === results) return;
    const old = shown.value;
    batch(() => {
      results.histogram.value ??= old?.histogram.value ?? null;
      results.facets.value ??= old?.facets.value ?? null;
      shown.value = results;
    });
    keep(entry, results, 0);
  };
  batch(() => {
    running.value = true;
    failure.value = null;
    sideFailure.value = null;
  });
  void streamHits<LogHit>({ ...range, limit: FIRST_PAGE, max_body: MAX_BODY }, mine, (hits) => {
    results.hits.value = results.hits.value.concat(hits);
    show();
  }).then(
    (trailer) => {
      if (mine.aborted) return;
      batch(() => {
        results.cursor.value = trailer.next_cursor;
        results.coverage.value = trailer.coverage;
        results.tookMs.value = trailer.took_ms;
        results.settled.value = true;
        running.value = false;
      });
      show();
    },
    (error: unknown) => {
      const told = explain(error);
      if (mine.aborted || !told) return;
      batch(() => {
        failure.value = told;
        running.value = false;
      });
      current = '';
    },
  );
  refreshSides(results, range, mine);
}

function refreshSides(results: Results, range: { q: string; start: string; end: string }, mine: AbortSignal): void {
  const tell = (error: unknown): void => {
    const told = explain(error);
    // A query the search itself refuses is told once, by the search.
    if (!mine.aborted && told && told.position === null) sideFailure.value = told;
  };
  getJson<Histogram>('histogram', { ...range, buckets: 80 }, mine).then((h) => { results.histogram.value = h; }, tell);
  getJson<Facets>('facets', { ...range, fields: FACET_FIELDS, limit: 12 }, mine).then((f) => { results.facets.value = f; }, tell);
}

/** While a tail runs, histogram and facets follow it. */
export function refreshCounts(state: SearchState): void {
  const results = shown.value;
  if (!results || results.key !== runKey(state)) return;
  refreshSides(results, { q: results.query, start: forApi(state.from), end: forApi(state.to) }, abort.signal);
}

/** Older lines, by the cursor. */
export function loadMore(): void {
  const results = shown.value;
  if (!results || results.more.value === 'loading' || !results.cursor.value || !results.settled.value) return;
  const coverage = results.coverage.value;
  if (abort.signal.aborted) abort = new AbortController();
  results.more.value = 'loading';
  const params = {
    q: results.query, cursor: results.cursor.value, limit: NEXT_PAGE, max_body: MAX_BODY,
    start: coverage?.start_unix_nano, end: coverage?.end_unix_nano,
  };
  const fresh: LogHit[] = [];
  void streamHits<LogHit>(params, abort.signal, (hits) => fresh.push(...hits)).then(
    (trailer) => batch(() => {
      results.hits.value = results.hits.value.concat(fresh);
      results.cursor.value = trailer.next_cursor;
      results.more.value = 'idle';
      if (!trailer.coverage.complete) results.coverage.value = trailer.coverage;
    }),
    (error: unknown) => {
      results.more.value = explain(error) ?? 'idle';
    },
  );
}
