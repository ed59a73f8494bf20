// Lines over time, stacked by severity: drag to zoom, click a bar to look into it; the arrow keys and Enter do the same.
// Screen readers get a slider over the bars and a table of the same numbers.

import { useSignal } from '@preact/signals';
import type { JSX } from 'preact';
import { useRef } from 'preact/hooks';
import type { Histogram as Data } from '../api/types';
import { count, plural } from '../text/number';
import { severityClass } from '../text/severity';
import { date, shortClock } from '../text/time';

interface Props {
  data: Data | null;
  tz: string;
  onZoom(from: number, to: number): void;
}

export interface Bar {
  start: number;
  end: number;
  total: number;
  counts: number[];
}

/** Buckets in milliseconds. */
export function barsOf(data: Data): Bar[] {
  const width = Number(data.bucket_nanos) / 1e6;
  return data.buckets.map((b) => {
    const start = Number(BigInt(b.start_unix_nano) / 1000n) / 1000;
    return { start, end: start + width, counts: b.counts, total: b.counts.reduce((a, c) => a + c, 0) };
  });
}

export function Histogram({ data, tz, onZoom }: Props): JSX.Element {
  const box = useRef<HTMLDivElement>(null);
  const cursor = useSignal(-1);
  const drag = useSignal<[number, number] | null>(null);
  if (!data || data.buckets.length === 0) return <div class="histogram" aria-hidden="true" />;
  const bars = barsOf(data);
  const n = bars.length;
  const top = Math.max(1, ...bars.map((b) => b.total));
  const wide = bars[n - 1]!.end - bars[0]!.start > 86_400_000;
  const seconds = bars[0]!.end - bars[0]!.start < 60_000;
  const when = (ms: number): string => (wide ? `${date(ms, tz).slice(5)} ` : '') + shortClock(ms, tz, seconds);
  const say = (i: number): string => {
    const b = bars[i];
    if (!b) return '';
    const parts = data.series.flatMap((s, k) => (b.counts[k] ? [`${count(b.counts[k] ?? 0)} ${s === 'UNSET' ? 'without severity' : s}`] : [])).reverse();
    return `${when(b.start)}–${when(b.end)}: ${plural(b.total, 'line')}${parts.length ? ` (${parts.join(', ')})` : ''}`;
  };
  const barAt = (event: PointerEvent): number => {
    const r = box.current!.getBoundingClientRect();
    return Math.max(0, Math.min(n - 1, Math.floor(((event.clientX - r.left) / r.width) * n)));
  };
  const zoom = (a: number, b: number): void => {
    const from = Math.floor(bars[Math.min(a, b)]!.start);
    onZoom(from, Math.max(from + 1, Math.ceil(bars[Math.max(a, b)]!.end)));
  };
  const sel = drag.value;
  return (
    <div class="histogram">
      <div
        ref={box}
        class="histogram-plot"
        role="slider"
        tabIndex={0}
        aria-label="Lines over time. Arrow keys choose a bar, Enter zooms into it."
        aria-valuemin={0}
        aria-valuemax={n - 1}
        aria-valuenow={Math.max(0, cursor.value)}
        aria-valuetext={say(Math.max(0, cursor.value))}
        onKeyDown={(e) => {
          const step = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10 }[e.key];
          if (step) cursor.value = Math.max(0, Math.min(n - 1, (cursor.value < 0 && step > 0 ? -1 : cursor.value) + step));
          else if (e.key === 'Home') cursor.value = 0;
          else if (e.key === 'End') cursor.value = n - 1;
          else if (e.key === 'Enter' && cursor.value >= 0) zoom(cursor.value, cursor.value);
          else return;
          e.preventDefault();
        }}
        onBlur={() => { cursor.value = -1; }}
        onPointerDown={(e) => {
          if (e.button !== 0) return;
          e.currentTarget.setPointerCapture(e.pointerId);
          const i = barAt(e);
          drag.value = [i, i];
        }}
        onPointerMove={(e) => {
          cursor.value = barAt(e);
          if (drag.value) drag.value = [drag.value[0], barAt(e)];
        }}
        onPointerLeave={() => { if (!drag.value) cursor.value = -1; }}
        onPointerCancel={() => { drag.value = null; }}
        onPointerUp={() => {
          const d = drag.value;
          drag.value = null;
          if (d && n > 1) zoom(d[0], d[1]);
        }}
      >
        <svg viewBox={`0 0 ${n} 100`} preserveAspectRatio="none" aria-hidden="true" focusable="false">
          {sel ? <rect class="histogram-drag" x={Math.min(...sel)} y={0} width={Math.abs(sel[1] - sel[0]) + 1} height={100} /> : null}
          {cursor.value >= 0 && !sel ? <rect class="histogram-cursor" x={cursor.value} y={0} width={1} height={100} /> : null}
          {bars.map((b, i) => {
            let y = 100;
            return b.counts.map((c, k) => {
              if (!c) return null;
              // At least one part in fifty, so that a single error is seen among thousands of lines.
              const h = Math.max(2, (c / top) * 92);
              y -= h;
              return <rect key={`${i}/${k}`} class={`stack ${severityClass(data.series[k] ?? '')}`} x={i + 0.04} y={y} width={0.92} height={h} />;
            });
          })}
        </svg>
      </div>
      <div class="histogram-foot" aria-hidden="true">
        {cursor.value >= 0 ? <span class="histogram-say">{say(cursor.value)}</span> : (
          <>
            <span>{when(bars[0]!.start)}</span>
            {n > 8 ? <span>{when(bars[Math.floor(n / 4)]!.start)}</span> : null}
            {n > 4 ? <span>{when(bars[Math.floor(n / 2)]!.start)}</span> : null}
            {n > 8 ? <span>{when(bars[Math.floor((3 * n) / 4)]!.start)}</span> : null}
            <span>{when(bars[n - 1]!.end)}</span>
          </>
        )}
      </div>
      <table class="sr-only">
        <caption>Lines over time by severity</caption>
        <thead><tr><th scope="col">From</th>{data.series.map((s) => <th scope="col" key={s}>{s}</th>)}</tr></thead>
        <tbody>
          {bars.map((b) => (
            <tr key={b.start}><th scope="row">{when(b.start)}</th>{b.counts.map((c, k) => <td key={data.series[k]}>{c}</td>)}</tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
