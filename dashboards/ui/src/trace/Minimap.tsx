// The whole trace in 54 pixels; errors are drawn last so that none is covered. Drag chooses the shown window.

import { useSignal } from '@preact/signals';
import type { JSX } from 'preact';
import { useEffect, useRef } from 'preact/hooks';
import { theme } from '../state/prefs';
import { serviceClass } from '../text/severity';
import type { Trace } from './model';

interface Props {
  trace: Trace;
  zoom: { start: number; end: number } | null;
  onZoom(zoom: { start: number; end: number } | null): void;
}

export function Minimap({ trace, zoom, onZoom }: Props): JSX.Element {
  const box = useRef<HTMLDivElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const width = useSignal(0);
  const drag = useSignal<[number, number] | null>(null);

  useEffect(() => {
    const el = box.current;
    if (!el) return;
    const seen = new ResizeObserver(() => { width.value = el.clientWidth; });
    seen.observe(el);
    width.value = el.clientWidth;
    return () => seen.disconnect();
  }, []);
  useEffect(() => {
    if (canvas.current && width.value) draw(canvas.current, trace, width.value);
  }, [trace, width.value, theme.value]);

  const at = (e: PointerEvent): number => {
    const r = box.current!.getBoundingClientRect();
    return Math.max(0, Math.min(1, (e.clientX - r.left) / r.width));
  };
  const shown = drag.value ? { start: Math.min(...drag.value), end: Math.max(...drag.value) } : zoom ? { start: zoom.start / trace.duration, end: zoom.end / trace.duration } : null;
  return (
    <div
      ref={box}
      class="minimap"
      role="img"
      aria-label="Overview of the trace; drag to zoom"
      onPointerDown={(e) => {
        if (e.button !== 0) return;
        e.currentTarget.setPointerCapture(e.pointerId);
        drag.value = [at(e), at(e)];
      }}
      onPointerMove={(e) => { if (drag.value) drag.value = [drag.value[0], at(e)]; }}
      onPointerCancel={() => { drag.value = null; }}
      onPointerUp={() => {
        const d = drag.value;
        drag.value = null;
        if (!d) return;
        const [a, b] = [Math.min(...d), Math.max(...d)];
        if (b - a > 0.004) onZoom({ start: Math.floor(a * trace.duration), end: Math.ceil(b * trace.duration) });
        else if (zoom) onZoom(null);
      }}
    >
      <canvas ref={canvas} />
      {shown ? (
        <>
          <i class="minimap-out" style={{ left: '0', width: `${shown.start * 100}%` }} />
          <i class="minimap-out" style={{ left: `${shown.end * 100}%`, right: '0' }} />
        </>
      ) : null}
    </div>
  );
}

/** The page's colours, as the browser computed them for this theme. */
function colours(services: readonly string[]): { service: string[]; error: string } {
  const probe = document.createElement('i');
  probe.className = 'probe';
  document.body.append(probe);
  const of = (name: string): string => {
    probe.className = `probe ${name}`;
    return getComputedStyle(probe).color;
  };
  const found = { service: services.map((s) => of(serviceClass(s))), error: of('probe-error') };
  probe.remove();
  return found;
}

function draw(canvas: HTMLCanvasElement, t: Trace, width: number): void {
  const height = 54;
  const scale = devicePixelRatio || 1;
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const g = canvas.getContext('2d');
  if (!g) return;
  g.scale(scale, scale);
  g.clearRect(0, 0, width, height);
  const { service, error } = colours(t.services);
  const row = Math.min(4, Math.max(1, height / Math.max(1, t.n)));
  const bar = (i: number, colour: string, least: number): void => {
    g.fillStyle = colour;
    g.fillRect((t.start[i]! / t.duration) * width, ((i / Math.max(1, t.n)) * (height - row)), Math.max(least, (t.length[i]! / t.duration) * width), Math.max(1, row * 0.8));
  };
  g.globalAlpha = t.n > 500 ? 0.55 : 0.9;
  for (let i = 0; i < t.n; i++) bar(i, service[t.service[i]!] ?? error, 0.5);
  g.globalAlpha = 1;
  for (const i of t.errors) bar(i, error, 2);
}
