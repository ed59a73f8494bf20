// Ways into a trace: paste its ID in any spelling, or take one of the recent ones: those of which a span meets the query, or single spans.

import { useSignal } from '@preact/signals';
import type { JSX } from 'preact';
import { useEffect, useRef } from 'preact/hooks';
import { type ApiError, explain } from '../api/client';
import { Icon } from '../parts/icons';
import { Empty, Failure, Loading, Notes, Problems } from '../parts/States';
import { type ListHandle, VirtualList } from '../parts/VirtualList';
import { Pills } from '../search/Pills';
import { useKeys } from '../shell/keys';
import { RangeControls } from '../shell/Shell';
import { notice } from '../state/notices';
import { go, href, patch, stateOf } from '../state/router';
import { count, duration, plural } from '../text/number';
import { type Pill, compose, splitAt } from '../text/query';
import { serviceClass } from '../text/severity';
import { findTraceId } from '../text/trace-id';
import { clock, date, forApi, full, inOtherZone, millisOf, resolve } from '../text/time';
import { type Asked, type Page, type Row, countSpans, fetchPage } from './found';

interface Found extends Page {
  key: string;
}

/** The last list, so that going back from a trace paints at once. */
let last: (Found & { top: number }) | null = null;

export function TracesPage(): JSX.Element {
  const s = stateOf('traces');
  const draft = useSignal(s.q);
  const again = useSignal(0);
  const { query, offset } = compose(s.q, s.f);
  const roots = s.spans === 'roots';
  const asked: Asked = { kind: s.spans, q: query, start: forApi(s.from), end: forApi(s.to) };
  const key = JSON.stringify([s.spans, query, s.from, s.to]);
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
    failed.value = null;
    fetchPage(asked, null, abort.signal).then(
      (page) => {
        found.value = { key, ...page };
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
    fetchPage({ ...asked, start: f.coverage.start_unix_nano, end: f.coverage.end_unix_nano }, f.cursor, new AbortController().signal).then(
      (page) => {
        loadingMore.value = false;
        if (found.value !== f) return;
        found.value = { ...f, rows: f.rows.concat(page.rows), cursor: page.cursor, coverage: page.coverage.complete ? f.coverage : page.coverage };
        last = { ...found.value, top: list.current?.scrollTop() ?? 0 };
      },
      (error: unknown) => {
        loadingMore.value = false;
        failed.value = explain(error);
      },
    );
  };
  const rows = found.value?.rows ?? [];
  const linkOf = (row: Row): string => href('trace', { id: row.trace, span: row.span });
  const open = (i: number): void => {
    const row = rows[i];
    if (row) go(linkOf(row));
  };
  const move = (step: number): void => {
    if (rows.length === 0) return;
    active.value = Math.max(0, Math.min(rows.length - 1, active.value + step));
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
  const parts = failed.value?.position === null || !failed.value ? null : splitAt(s.q, failed.value.position, offset);
  const coverage = found.value?.coverage ?? null;
  const now = Date.now();
  const dated = date(resolve(s.from, now), s.tz) !== date(resolve(s.to, now), s.tz);
  const longest = Math.max(1, ...rows.map((r) => r.length));
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
        <button type="button" class="button small" aria-pressed={!roots} title="List each span that matches, not the trace it is of" onClick={() => patch('traces', { spans: roots ? 'all' : 'roots' }, 'push')}>All spans</button>
        <span class="coverage" role="status">{found.value ? `${plural(rows.length, roots ? 'trace' : 'span')}${found.value.cursor ? ' so far' : ''}, ${roots ? 'latest activity' : 'newest'} first` : failed.value ? '' : 'Searching…'}</span>
        <Problems coverage={coverage} />
        <Notes coverage={coverage} />
      </div>
      {failed.value ? (
        <Failure error={failed.value} onRetry={() => { again.value += 1; }}>
          {parts ? <p class="mono query-mark">{parts.before}<mark>{parts.at || '␣'}</mark>{parts.after}</p> : null}
        </Failure>
      ) : null}
      {rows.length > 0 ? (
        <>
          <div class="traces-head" aria-hidden="true"><span class="at">Start</span><span class="what">Service · operation</span><span class="took">Duration</span><span class="lane" /></div>
          <VirtualList
            class="traces-list"
            role="grid"
            label={roots ? 'Traces, latest activity first' : 'Spans, newest first'}
            columns={4}
            count={rows.length}
            rowHeight={24}
            handle={list}
            active={active.value >= 0 ? `request-${active.value}` : undefined}
            onNearEnd={more}
            onScroll={(top) => { if (last) last.top = top; }}
            onKeyDown={(e) => {
              const page = list.current?.pageSize() ?? 20;
              const step = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -rows.length, End: rows.length }[e.key];
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
              const r = rows[i];
              if (!r) return null;
              const at = millisOf(r.startNanos);
              return (
                <div key={r.key} role="row" id={`request-${i}`} data-i={i} aria-rowindex={i + 1} class={`request ${serviceClass(r.service)}${r.failed ? ' error' : ''}${i === active.value ? ' active' : ''}`}>
                  <span role="gridcell" class="at" title={inOtherZone(at, s.tz)}>{dated ? full(at, s.tz).slice(5) : clock(at, s.tz)}</span>
                  <span role="gridcell" class="what">
                    <a href={linkOf(r)} tabIndex={-1}><i class="dot" />{r.service || 'unknown'} <span class="operation">{r.name}</span></a>
                    {r.failed ? <b class="letter sev-error" title={r.failed}>E</b> : null}
                    {r.missingParent ? <span class="badge note" title="A span names a parent that was not received">parent missing</span> : null}
                    {r.inProgress ? <span class="badge note">in progress</span> : null}
                  </span>
                  <span role="gridcell" class="took">{r.inProgress ? (r.length ? `${duration(r.length)}…` : '–') : duration(r.length)}</span>
                  <span role="gridcell" class="lane"><i class="span-bar" style={{ left: '0', width: `${Math.max(0.3, (r.length / longest) * 100)}%` }} /></span>
                </div>
              );
            }}
          />
        </>
      ) : null}
      {found.value?.key === key && rows.length === 0 ? <Nothing key={key} asked={asked} filters={s.f} /> : null}
      {found.value?.key !== key && rows.length === 0 && !failed.value ? <Loading rows={16} label="Searching" /> : null}
    </div>
  );
}

/** No row: what to try. A trace that began before the range may have spans in it. */
function Nothing({ asked, filters }: { asked: Asked; filters: readonly Pill[] }): JSX.Element {
  const roots = asked.kind === 'roots';
  const spans = useSignal<number | null>(null);
  useEffect(() => {
    if (!roots) return;
    const abort = new AbortController();
    // Only an aid: without the number the way stays open.
    countSpans(asked, abort.signal).then((n) => { spans.value = n; }, () => {});
    return () => abort.abort();
  }, []);
  const n = spans.value;
  return (
    <Empty title={!roots ? 'No span matches in this range.' : asked.q ? 'No trace with a matching span began in this range.' : 'No trace began in this range.'}>
      {roots && n !== 0 ? (
        <p class="empty-way">
          <button type="button" class="button" onClick={() => patch('traces', { spans: 'all' }, 'push')}>All spans</button>{' '}
          <span class="muted">{n === null ? 'Spans of traces that began before are listed there.' : n === 1 ? '1 span of this range matches; its trace began before.' : `${count(n)} spans of this range match; their traces began before.`}</span>
        </p>
      ) : null}
      <ul>
        {roots && n === 0 ? <li>No single span of this range matches either.</li> : null}
        {asked.q ? <li>Remove a filter or a word of the query{filters.some((f) => f.field === 'severity' || f.field === 'log_group') ? ': spans have neither severity nor log group' : ''}.</li> : null}
        <li><button type="button" class="link-button" onClick={() => patch('traces', { from: '-24h', to: 'now' }, 'push')}>Look at the last 24 hours</button></li>
      </ul>
    </Empty>
  );
}
