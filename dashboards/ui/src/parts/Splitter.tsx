// A bar between two parts of the page that is dragged, or moved with the arrow keys.

import type { JSX } from 'preact';

interface Props {
  label: string;
  value: number;
  min: number;
  max: number;
  /** +1: dragging to the right makes the sized part wider; -1: narrower. */
  direction: 1 | -1;
  onChange(value: number): void;
  class?: string;
}

export function Splitter({ label, value, min, max, direction, onChange, class: name }: Props): JSX.Element {
  const clamp = (v: number): number => Math.round(Math.min(max, Math.max(min, v)));
  return (
    <div
      class={`splitter ${name ?? ''}`}
      role="separator"
      aria-orientation="vertical"
      aria-label={label}
      aria-valuenow={value}
      aria-valuemin={min}
      aria-valuemax={max}
      tabIndex={0}
      onKeyDown={(e) => {
        const step = e.key === 'ArrowLeft' ? -16 : e.key === 'ArrowRight' ? 16 : 0;
        if (!step) return;
        e.preventDefault();
        onChange(clamp(value + step * direction));
      }}
      onPointerDown={(e) => {
        const bar = e.currentTarget;
        const x = e.clientX;
        e.preventDefault();
        bar.setPointerCapture(e.pointerId);
        const move = (m: PointerEvent): void => onChange(clamp(value + (m.clientX - x) * direction));
        const up = (): void => {
          bar.removeEventListener('pointermove', move);
          bar.removeEventListener('pointerup', up);
          bar.removeEventListener('pointercancel', up);
        };
        bar.addEventListener('pointermove', move);
        bar.addEventListener('pointerup', up);
        bar.addEventListener('pointercancel', up);
      }}
    />
  );
}
