// One trace: header, minimap, waterfall with its logs, the selected span, and all logs in the order they were written.

import { useSignal } from '@preact/signals';
import type { JSX } from 'preact';
import { useEffect, useMemo, useRef } from 'preact/hooks';
import { type ApiError, explain, getJson } from '../api/client';
import type { Coverage, TraceColumns } from '../api/types';
import { Icon, Key } from '../parts/icons';
import { Splitter } from '../parts/Splitter';
import { Empty, Failure, Loading, Notes, Problems } from '../parts/States';
import { type ListHandle, VirtualList } from '../parts/VirtualList';
import { useKeys } from '../shell/keys';
import { RangeControls } from '../shell/Shell';
import { copy, notice } from '../state/notices';
import { prefs, setPrefs } from '../state/prefs';
import { common, href, patch, stateOf } from '../state/router';
import { count, duration, plural } from '../text/number';
import { letter, serviceClass, severityClass } from '../text/severity';
import { clock, full, inOtherZone, millisOf, zoneLabel } from '../text/time';
import { type Trace, ancestors, canFold, isLogRow, logOfRow, nextError, readTrace, rowOfLog, shiftLevel, visibleRows } from './model';
import { Minimap } from './Minimap';
import { SpanPanel, rangeAround } from './SpanPanel';
import { Waterfall } from './Waterfall';

/** A trace this young, or with open spans, may still grow. */
const YOUNG_MS = 30_000;
const REFRESH_MS = 3_000;
/** Ways a link to a folded tree may grow to; beyond it the folding is not kept in the link. */
const MAX_SHUT = 200;

/** Traces seen lately, so that going back paints at once. */
const seen = new Map<string, { trace: Trace; coverage: Coverage }>();

export function TracePage(): JSX.Element {
  const s = stateOf('trace');
  const data = useSignal(seen.get(s.id) ?? null);
  const failed = useSignal<ApiError | null>(null);
  const again = useSignal(0);
  const id = s.id;

  useEffect(() => {
    data.value = seen.get(id) ?? null;
    failed.value = null;
    if (!id) return;
    const abort = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const load = (): void => {
      getJson<TraceColumns>(`traces/${encodeURIComponent(id)}`, { format: 'columns' }, abort.signal).then(
        (columns) => {
          const trace = readTrace(columns);
          const old = data.peek()?.trace;
          failed.value = null;
          if (!old || old.n !== trace.n || old.logs.n !== trace.logs.n || old.duration !== trace.duration || trace.inProgress.some(Boolean)) {
            data.value = { trace, coverage: columns.coverage };
            seen.set(id, data.value);
            if (seen.size > 6) seen.delete(seen.keys().next().value!);
          }
          const ended = millisOf(trace.startNanos) + trace.duration / 1e6;
          const age = Date.now() - ended;
          if (age < YOUNG_MS || (trace.inProgress.some(Boolean) && age < 3_600_000)) timer = setTimeout(load, REFRESH_MS);
        },
        (error: unknown) => {
          failed.value = explain(error);
          // It may be on its way: the first ten seconds are worth asking again.
          if (failed.value?.status === 404 && performance.now() - begun < 10_000) timer = setTimeout(load, 2_000);
        },
      );
    };
    const begun = performance.now();
    load();
    return () => {
      clearTimeout(timer);
      abort.abort();
    };
  }, [id, again.value]);

  if (!id) return <><h1 class="sr-only">Trace</h1><Empty title="This link names no trace."><p><a href={href('traces', {})}>Find one</a></p></Empty></>;
  if (data.value) {
    return (
      <>
        {failed.value ? <Failure error={failed.value} onRetry={() => { again.value += 1; }} /> : null}
        <Shown key={id} trace={data.value.trace} coverage={data.value.coverage} />
      </>
    );
  }
  if (failed.value?.status === 404) return <NotFound id={id} onRetry={() => { again.value += 1; }} />;
  return (
    <>
      <h1 class="sr-only">Trace {id}</h1>
      {failed.value ? <Failure error={failed.value} onRetry={() => { again.value += 1; }} /> : <Loading rows={24} label="Loading the trace" />}
    </>
  );
}

function NotFound({ id, onRetry }: { id: string; onRetry(): void }): JSX.Element {
  return (
    <div class="not-found">
      <h1>No trace {id}</h1>
      <p>Neither a span nor a log with this ID is stored here. That means one of these:</p>
      <ul>
        <li>It is still on its way. Spans are sent in batches, often every 5 to 10 seconds. <button type="button" class="link-button" onClick={onRetry}>Look again</button></li>
        <li>It was not sampled, or went to another server. Its logs may be here under another field: <a href={href('search', { q: `"${id.replace(/["\\]/g, '')}"`, f: [], from: '-24h', to: 'now' })}>search the logs of the last 24 hours for it</a>.</li>
        <li>It is older than the retention of this server.</li>
        <li>The ID is mistyped or cut: it has 32 hex digits (W3C), or the form 1-8 digits-24 digits (X-Ray). <a href={href('traces', {})}>Paste another</a>.</li>
      </ul>
    </div>
  );
}

function Shown({ trace: t, coverage }: { trace: Trace; coverage: Coverage }): JSX.Element {
  const s = stateOf('trace');
  const list = useRef<ListHandle | null>(null);
  const active = useSignal(Number.MIN_SAFE_INTEGER);
  const shutIds = s.shut.join(',');
  const shut = useMemo(() => {
    const set = new Set<number>();
    for (const id of s.shut) {
      const i = t.indexOf.get(id);
      if (i !== undefined) set.add(i);
    }
    return set;
  }, [t, shutIds]);
  const rows = useMemo(() => visibleRows(t, shut, s.hide), [t, shut, s.hide]);
  const selected = s.span ? (t.indexOf.get(s.span) ?? -1) : -1;
  const view = t.n === 0 ? 'logs' : s.view;

  const setShut = (next: ReadonlySet<number>): void => {
    if (next.size > MAX_SHUT) notice('So many folded spans do not fit into the link; it keeps the first 200.');
    patch('trace', { shut: [...next].slice(0, MAX_SHUT).map((i) => t.spanId[i]!) }, 'replace');
  };
  const fold = (i: number): void => {
    if (!canFold(t, i)) return;
    const next = new Set(shut);
    if (!next.delete(i)) next.add(i);
    setShut(next);
  };
  const reveal = (row: number, middle = false): void => {
    requestAnimationFrame(() => {
      const at = visibleRows(t, new Set(stateOf('trace').shut.map((id) => t.indexOf.get(id) ?? -1)), stateOf('trace').hide).indexOf(row);
      if (at >= 0) list.current?.reveal(at, middle);
    });
  };
  /** Selects a span, unfolds what hides it, and brings it into view. */
  const jump = (i: number, how: 'push' | 'replace'): void => {
    const above = new Set(ancestors(t, i));
    active.value = i;
    patch('trace', { span: t.spanId[i]!, log: '', view: 'waterfall', shut: s.shut.filter((id) => !above.has(t.indexOf.get(id) ?? -1)) }, how);
    reveal(i, true);
  };
  const pick = (row: number): void => {
    active.value = row;
    const how = s.span ? 'replace' : 'push';
    if (!isLogRow(row)) {
      patch('trace', { span: t.spanId[row]!, log: '', tab: s.tab === 'logs' && s.log ? 'attributes' : s.tab }, how);
      return;
    }
    const log = logOfRow(row);
    const span = t.logs.span[log]!;
    patch('trace', { span: span >= 0 ? t.spanId[span]! : '', log: t.logs.id[log]!, tab: 'logs' }, how);
  };
  const move = (step: number): void => {
    if (rows.length === 0) return;
    const at = rows.indexOf(active.value);
    const to = at < 0 ? (step > 0 ? 0 : rows.length - 1) : Math.max(0, Math.min(rows.length - 1, at + step));
    active.value = rows[to]!;
    if (s.span) pick(rows[to]!);
    list.current?.reveal(to);
  };
  const onKeyDown = (e: KeyboardEvent): void => {
    if (e.ctrlKey || e.metaKey || e.altKey) return;
    const page = list.current?.pageSize() ?? 20;
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -rows.length, End: rows.length }[e.key];
    const i = active.value;
    if (step) move(step);
    else if (e.key === 'ArrowRight' && i >= 0 && shut.has(i)) fold(i);
    else if (e.key === 'ArrowLeft' && i >= 0 && !shut.has(i) && canFold(t, i)) fold(i);
    else if (e.key === 'ArrowLeft' && i >= 0 && t.parent[i]! >= 0) {
      active.value = t.parent[i]!;
      reveal(active.value);
    } else return;
    e.preventDefault();
  };
  const zoom = (z: { start: number; end: number } | null): void => patch('trace', { zoom: z }, s.zoom && z ? 'replace' : 'push');
  const errorStep = (step: 1 | -1): void => {
    const i = nextError(t, selected >= 0 && t.errors.length ? selected : -1, step);
    if (i >= 0) jump(i, s.span ? 'replace' : 'push');
    else notice('No span of this trace failed.');
  };
  const cycleLogs = (): void => {
    const next = { '': 'low', low: 'logs', logs: '' } as const;
    patch('trace', { hide: next[s.hide] }, 'replace');
  };
  const close = (): void => {
    patch('trace', { span: '', log: '' }, 'replace');
    list.current?.focus();
  };
  useKeys('Trace', [
    { key: 'j', does: 'Next row', run: () => move(1) },
    { key: 'k', does: 'Previous row', run: () => move(-1) },
    { key: 'Enter', does: 'Open the row in the panel', run: () => { if (active.value !== Number.MIN_SAFE_INTEGER) pick(active.value); } },
    { key: 'x', does: 'Fold or unfold', run: () => { if (active.value >= 0) fold(active.value); } },
    { key: 'e', does: 'Next error (first: where it began)', run: () => errorStep(1) },
    { key: 'E', does: 'Previous error', run: () => errorStep(-1) },
    { key: '[', does: 'Fold one level', run: () => setShut(shiftLevel(t, shut, 'fold')) },
    { key: ']', does: 'Unfold one level', run: () => setShut(shiftLevel(t, shut, 'unfold')) },
    { key: 'v', does: 'Logs in the waterfall: all, warnings and worse, none', run: cycleLogs },
    { key: '0', does: 'Whole trace', run: () => zoom(null) },
    { key: 'Escape', does: 'Back out one level', run: () => { if (s.span || s.log) close(); else if (s.zoom) zoom(null); else active.value = Number.MIN_SAFE_INTEGER; } },
  ]);

  // A link that names a span or a log shows it.
  useEffect(() => {
    const log = s.log ? t.logs.id.indexOf(s.log) : -1;
    if (log >= 0 && visibleRows(t, shut, s.hide).includes(rowOfLog(log))) {
      active.value = rowOfLog(log);
      reveal(rowOfLog(log), true);
    } else if (selected >= 0) {
      active.value = selected;
      reveal(selected, true);
    }
  }, [t.id]);

  return (
    <div class="trace">
      <Head trace={t} coverage={coverage} onError={() => errorStep(1)} />
      {t.n > 0 ? <Minimap trace={t} zoom={s.zoom} onZoom={zoom} /> : null}
      <div class="trace-tools">
        <div class="tabs" role="group" aria-label="View">
          <button type="button" aria-pressed={view === 'waterfall'} disabled={t.n === 0} onClick={() => patch('trace', { view: 'waterfall' }, 'push')}>Waterfall</button>
          <button type="button" aria-pressed={view === 'logs'} onClick={() => patch('trace', { view: 'logs' }, 'push')}>Logs {count(t.logs.n)}</button>
        </div>
        {view === 'waterfall' ? (
          <div class="tools">
            <button type="button" class="button" onClick={cycleLogs}>Log rows: {s.hide === '' ? 'all' : s.hide === 'low' ? 'warnings+' : 'none'} <Key k="v" /></button>
            {t.errors.length ? <button type="button" class="button" onClick={() => errorStep(1)}>Next error <Key k="e" /></button> : null}
            <button type="button" class="button square" aria-label="Fold one level" title="Fold one level ([)" onClick={() => setShut(shiftLevel(t, shut, 'fold'))}><Icon name="minus" /></button>
            <button type="button" class="button square" aria-label="Unfold one level" title="Unfold one level (])" onClick={() => setShut(shiftLevel(t, shut, 'unfold'))}><Icon name="plus" /></button>
            {s.zoom ? <button type="button" class="button" onClick={() => zoom(null)}>Whole trace <Key k="0" /></button> : null}
          </div>
        ) : <Notes coverage={coverage} />}
      </div>
      <div class="trace-body">
        {view === 'waterfall' ? (
          <Waterfall trace={t} rows={rows} shut={shut} zoom={s.zoom} selected={s.log ? -1 : selected} selectedLog={s.log} active={active.value} tz={s.tz} handle={list} onPick={pick} onFold={fold} onZoom={zoom} onKeyDown={onKeyDown} />
        ) : <Chronology trace={t} tz={s.tz} chosen={s.log} handle={list} onPick={(log) => pick(rowOfLog(log))} />}
        {selected >= 0 ? (
          <>
            <Splitter label="Width of the panel" value={prefs.value.panelWidth} min={260} max={900} direction={-1} onChange={(panelWidth) => setPrefs({ panelWidth })} />
            <div class="panel-box" style={{ '--panel': `${prefs.value.panelWidth}px` }}>
              <SpanPanel
                trace={t}
                span={selected}
                tab={s.tab}
                log={s.log}
                onTab={(tab) => patch('trace', { tab }, 'replace')}
                onClose={close}
                onSelect={(id) => jump(t.indexOf.get(id)!, 'replace')}
              />
            </div>
          </>
        ) : null}
      </div>
    </div>
  );
}

function Head({ trace: t, coverage, onError }: { trace: Trace; coverage: Coverage; onError(): void }): JSX.Element {
  const { tz } = common.value;
  const at = millisOf(t.startNanos);
  const service = t.n ? (t.services[t.service[0]!] ?? '') : '';
  const open = t.inProgress.filter(Boolean).length;
  const missing = t.missingParent.filter(Boolean).length;
  const skewed = t.skewed.filter(Boolean).length;
  const homeless = t.logs.n - (t.logStart[t.n] ?? 0);
  const notes: string[] = [];
  if (t.n === 0) notes.push('No span of this trace was received; these are its logs.');
  if (missing) notes.push(`${plural(missing, 'span')} name a parent that was not received; ${missing === 1 ? 'it is' : 'they are'} shown at the top level.`);
  if (skewed) notes.push(`${plural(skewed, 'span')} cannot lie within ${skewed === 1 ? 'its' : 'their'} parent: clocks differ. Times are shown as sent.`);
  if (open) notes.push(`${plural(open, 'span')} still in progress; the page refreshes itself.`);
  if (homeless > 0 && t.n > 0) notes.push(`${plural(homeless, 'log')} of this trace name no span; they are at the foot of the waterfall.`);
  return (
    <header class="trace-head">
      <div class="trace-title">
        <h1 class={serviceClass(service)}>{t.n ? <><i class="dot" /> {service} <span class="operation">{t.name[0]}</span></> : `Trace ${t.id}`}</h1>
        <div class="tools"><RangeControls range={false} /></div>
      </div>
      <div class="trace-facts">
        {t.n ? <b>{!open ? duration(t.took) : t.took > 0 ? `${duration(t.took)} so far` : 'in progress'}</b> : null}
        <span>{plural(t.n, 'span')}</span>
        <span>{plural(t.services.length, 'service')}</span>
        <span>{plural(t.logs.n, 'log')}</span>
        {t.nErrors ? <button type="button" class="link-button sev-error sev-text" onClick={onError}><i class="square-mark" /> {plural(t.nErrors, 'error')}</button> : <span class="muted">no errors</span>}
        <CopyId name="the trace ID" value={t.id} />
        <CopyId name="the X-Ray trace ID" value={t.xrayId} />
        <time class="mono" title={inOtherZone(at, tz)}>{full(at, tz)} {zoneLabel(tz, at)}</time>
        <a href={href('search', { ...rangeAround(t), f: [], q: `trace:(trace_id:${t.id})` })}>Search its logs</a>
      </div>
      {notes.length ? <ul class="trace-notes">{notes.map((n) => <li key={n}>{n}</li>)}</ul> : null}
      <Problems coverage={coverage} />
    </header>
  );
}

function CopyId({ name, value }: { name: string; value: string }): JSX.Element {
  return (
    <button type="button" class="copy-id mono" title={`Copy ${name}`} aria-label={`Copy ${name} ${value}`} onClick={() => void copy(value, name)}>
      <span>{value}</span> <Icon name="copy" />
    </button>
  );
}

function Chronology({ trace: t, tz, chosen, handle, onPick }: { trace: Trace; tz: string; chosen: string; handle: { current: ListHandle | null }; onPick(log: number): void }): JSX.Element {
  const at = t.logs.id.indexOf(chosen);
  const active = useSignal(Math.max(0, at));
  useEffect(() => {
    if (at > 0) handle.current?.reveal(at, true);
  }, []);
  if (t.logs.n === 0) return <Empty title="No logs carry this trace ID."><p class="muted">Logs join a trace by its ID: in the record, in a field of its JSON body, or in its text.</p></Empty>;
  return (
    <VirtualList
      class="log-list"
      role="grid"
      label="Logs of the trace, oldest first"
      columns={5}
      count={t.logs.n}
      rowHeight={22}
      handle={handle}
      active={`chron-${active.value}`}
      onKeyDown={(e) => {
        const step = e.key === 'ArrowDown' ? 1 : e.key === 'ArrowUp' ? -1 : 0;
        if (e.key === 'Enter') onPick(active.value);
        if (!step) return;
        e.preventDefault();
        active.value = Math.max(0, Math.min(t.logs.n - 1, active.value + step));
        handle.current?.reveal(active.value);
      }}
      onClick={(e) => {
        const id = (e.target as Element).closest('[data-log]')?.getAttribute('data-log');
        if (!id) return;
        active.value = Number(id);
        onPick(Number(id));
      }}
      row={(l) => {
        const severity = t.logs.severity[l]!;
        const service = t.logs.service[l]!;
        return (
          <div key={t.logs.id[l]} role="row" id={`chron-${l}`} data-log={l} aria-rowindex={l + 1} aria-selected={t.logs.id[l] === chosen} class={`log-row ${severityClass(severity)}${l === active.value ? ' active' : ''}`}>
            <span role="gridcell" class="letter" title={severity}>{letter(severity)}</span>
            <span role="gridcell" class="at" title={full(millisOf(t.logs.nanos[l]!), tz)}>{clock(millisOf(t.logs.nanos[l]!), tz)}</span>
            <span role="gridcell" class="offset">+{duration(Math.max(0, t.logs.offset[l]!))}</span>
            <span role="gridcell" class={`cell service ${serviceClass(service)}`}>{service ? <i class="dot" /> : null}{service || '–'}</span>
            <span role="gridcell" class="body">{t.logs.body[l]!.slice(0, 600)}</span>
          </div>
        );
      }}
    />
  );
}
