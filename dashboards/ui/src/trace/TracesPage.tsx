// Ways into a trace: paste its ID in any spelling, or take one of the recent requests.

import { useSignal } from '@preact/signals';
import type { JSX } from 'preact';
import { useEffect, useRef } from 'preact/hooks';
import { type ApiError, explain, streamHits } from '../api/client';
import type { Coverage, SpanHit } from '../api/types';
import { Icon } from '../parts/icons';
import { Empty, Failure, Loading, Notes, Problems } from '../parts/States';
import { type ListHandle, VirtualList } from '../parts/VirtualList';
import { Pills } from '../search/Pills';
import { useKeys } from '../shell/keys';
import { RangeControls } from '../shell/Shell';
import { notice } from '../state/notices';
import { go, href, patch, stateOf } from '../state/router';
import { duration, plural } from '../text/number';
import { type Pill, compose, splitAt } from '../text/query';
import { serviceClass } from '../text/severity';
import { findTraceId } from '../text/trace-id';
import { clock, date, forApi, full, inOtherZone, millisOf, resolve } from '../text/time';

const PAGE = 200;
/** The list is of requests: the spans that began one. */
const ROOTS = 'is_root:true';

interface Found {
  key: string;
  hits: SpanHit[];
  cursor: string | null;
  coverage: Coverage;
}

/** The last list, so that going back from a trace paints at once. */
let last: (Found & { top: number }) | null = null;

export function TracesPage(): JSX.Element {
  const s = stateOf('traces');
  const draft = useSignal(s.q);
  const again = useSignal(0);
  const { query, offset } = compose(s.q, s.f);
  const roots = s.spans === 'roots';
  const sent = !roots ? query : query ? `${ROOTS} AND (${query})` : ROOTS;
  const shift = offset < 0 ? -1 : !roots ? offset : offset + ROOTS.length + 6;
  const thing = roots ? 'request' : 'span';
  const key = JSON.stringify([sent, s.from, s.to]);
  const found = useSignal<Found | null>(last);
  const failed = useSignal<ApiError | null>(null);
  const loadingMore = useSignal(false);
  const active = useSignal(-1);
  const list = useRef<ListHandle | null>(null);
  const input = useRef<HTMLInputElement>(null);

  useEffect(() => {
    draft.value = s.q;
  }, [s.q]);
  useEffect(() => {
    if (last?.key === key && again.value === 0) {
      const top = last.top;
      requestAnimationFrame(() => list.current?.scrollTo(top));
    }
    const abort = new AbortController();
    const hits: SpanHit[] = [];
    failed.value = null;
    streamHits<SpanHit>({ table: 'spans', q: sent, start: forApi(s.from), end: forApi(s.to), limit: PAGE }, abort.signal, (h) => { hits.push(...h); }).then(
      (t) => {
        found.value = { key, hits, cursor: t.next_cursor, coverage: t.coverage };
        last = { ...found.value, top: 0 };
      },
      (error: unknown) => { failed.value = explain(error); },
    );
    return () => abort.abort();
  }, [key, again.value]);

  const more = (): void => {
    const f = found.value;
    if (!f?.cursor || loadingMore.value || f.key !== key) return;
    loadingMore.value = true;
    const hits: SpanHit[] = [];
    streamHits<SpanHit>({ table: 'spans', q: sent, cursor: f.cursor, start: f.coverage.start_unix_nano, end: f.coverage.end_unix_nano, limit: PAGE }, new AbortController().signal, (h) => { hits.push(...h); }).then(
      (t) => {
        loadingMore.value = false;
        if (found.value !== f) return;
        found.value = { ...f, hits: f.hits.concat(hits), cursor: t.next_cursor, coverage: t.coverage.complete ? f.coverage : t.coverage };
        last = { ...found.value, top: list.current?.scrollTop() ?? 0 };
      },
      (error: unknown) => {
        loadingMore.value = false;
        failed.value = explain(error);
      },
    );
  };
  const hits = found.value?.hits ?? [];
  const open = (i: number): void => {
    const hit = hits[i];
    if (hit) go(href('trace', roots ? { id: hit.trace_id } : { id: hit.trace_id, span: hit.span_id }));
  };
  const move = (step: number): void => {
    if (hits.length === 0) return;
    active.value = Math.max(0, Math.min(hits.length - 1, active.value + step));
    list.current?.reveal(active.value);
  };
  useKeys('Traces', [
    { key: '/', does: 'Trace ID or query', run: () => input.current?.select() },
    { key: 'j', does: 'Next trace', run: () => move(1) },
    { key: 'k', does: 'Previous trace', run: () => move(-1) },
    { key: 'Enter', does: 'Open the trace', run: () => open(active.value) },
    { key: 'o', does: 'Open the trace', run: () => open(active.value) },
    { key: 'Escape', does: 'Back out one level', run: () => { active.value = -1; } },
  ]);
  const setPills = (f: Pill[]): void => patch('traces', { f }, 'push');
  const submit = (): void => {
    const id = findTraceId(draft.value);
    if (id) go(href('trace', { id }));
    else if (draft.value === s.q) again.value += 1;
    else patch('traces', { q: draft.value }, 'push');
  };
  const parts = failed.value?.position === null || !failed.value ? null : splitAt(s.q, failed.value.position, shift);
  const coverage = found.value?.coverage ?? null;
  const now = Date.now();
  const dated = date(resolve(s.from, now), s.tz) !== date(resolve(s.to, now), s.tz);
  const longest = Math.max(1, ...hits.map((h) => h.duration_nano));
  return (
    <div class="traces">
      <h1 class="sr-only">Traces</h1>
      <form class="bar" role="search" onSubmit={(e) => { e.preventDefault(); submit(); }}>
        <input
          ref={input}
          class="input query"
          aria-label="Trace ID or query"
          placeholder="Paste a trace ID in any form, or filter: service:checkout duration>500ms status:ERROR"
          autocomplete="off"
          spellcheck={false}
          value={draft.value}
          onInput={(e) => { draft.value = e.currentTarget.value; }}
          onPaste={(e) => {
            const id = findTraceId(e.clipboardData?.getData('text') ?? '');
            if (!id) return;
            e.preventDefault();
            notice('Opened the pasted trace.');
            go(href('trace', { id }));
          }}
        />
        <RangeControls />
        <button type="submit" class="button primary">Run <Icon name="enter" /></button>
      </form>
      <div class="sub-bar">
        <Pills pills={s.f} onChange={setPills} />
        <button type="button" class="button small" aria-pressed={!roots} title="Look at every span, not only at the first of each trace" onClick={() => patch('traces', { spans: roots ? 'all' : 'roots' }, 'push')}>All spans</button>
        <span class="coverage" role="status">{found.value ? `${plural(hits.length, thing)}${found.value.cursor ? ' so far' : ''}, newest first` : failed.value ? '' : 'Searching…'}</span>
        <Problems coverage={coverage} />
        <Notes coverage={coverage} />
      </div>
      {failed.value ? (
        <Failure error={failed.value} onRetry={() => { again.value += 1; }}>
          {parts ? <p class="mono query-mark">{parts.before}<mark>{parts.at || '␣'}</mark>{parts.after}</p> : null}
        </Failure>
      ) : null}
      {hits.length > 0 ? (
        <>
          <div class="traces-head" aria-hidden="true"><span class="at">Start</span><span class="what">Service · operation</span><span class="took">Duration</span><span class="lane" /></div>
          <VirtualList
            class="traces-list"
            role="grid"
            label="Recent requests, newest first"
            columns={4}
            count={hits.length}
            rowHeight={24}
            handle={list}
            active={active.value >= 0 ? `request-${active.value}` : undefined}
            onNearEnd={more}
            onScroll={(top) => { if (last) last.top = top; }}
            onKeyDown={(e) => {
              const page = list.current?.pageSize() ?? 20;
              const step = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -hits.length, End: hits.length }[e.key];
              if (!step) return;
              e.preventDefault();
              move(step);
            }}
            onClick={(e) => {
              const target = e.target as Element;
              const i = target.closest('[data-i]')?.getAttribute('data-i');
              if (i && !target.closest('a')) open(Number(i));
            }}
            row={(i) => {
              const h = hits[i];
              if (!h) return null;
              const at = millisOf(h.start_time_unix_nano);
              const failedSpan = h.status_code === 'ERROR';
              return (
                <div key={h.id} role="row" id={`request-${i}`} data-i={i} aria-rowindex={i + 1} class={`request ${serviceClass(h.service_name ?? '')}${failedSpan ? ' error' : ''}${i === active.value ? ' active' : ''}`}>
                  <span role="gridcell" class="at" title={inOtherZone(at, s.tz)}>{dated ? full(at, s.tz).slice(5) : clock(at, s.tz)}</span>
                  <span role="gridcell" class="what">
                    <a href={href('trace', roots ? { id: h.trace_id } : { id: h.trace_id, span: h.span_id })} tabIndex={-1}><i class="dot" />{h.service_name ?? 'unknown'} <span class="operation">{h.name}</span></a>
                    {failedSpan ? <b class="letter sev-error" title={h.status_message ?? 'Error'}>E</b> : null}
                    {h.in_progress ? <span class="badge note">in progress</span> : null}
                  </span>
                  <span role="gridcell" class="took">{duration(h.duration_nano)}</span>
                  <span role="gridcell" class="lane"><i class="span-bar" style={{ left: '0', width: `${Math.max(0.3, (h.duration_nano / longest) * 100)}%` }} /></span>
                </div>
              );
            }}
          />
        </>
      ) : null}
      {found.value && hits.length === 0 ? (
        <Empty title={roots ? 'No request started in this range.' : 'No span matches in this range.'}>
          <ul>
            {s.q || s.f.length ? <li>Remove a filter or a word of the query{s.f.some((f) => f.field === 'severity' || f.field === 'log_group') ? ': spans have neither severity nor log group' : ''}.</li> : null}
            <li><button type="button" class="link-button" onClick={() => patch('traces', { from: '-24h', to: 'now' }, 'push')}>Look at the last 24 hours</button></li>
            <li>A trace whose first span did not arrive is not in this list; its ID still opens it.</li>
          </ul>
        </Empty>
      ) : null}
      {!found.value && !failed.value ? <Loading rows={16} label="Searching" /> : null}
    </div>
  );
}
