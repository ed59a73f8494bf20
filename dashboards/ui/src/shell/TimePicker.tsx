// The range button and what opens below it.

import { signal, useSignal } from '@preact/signals';
import type { JSX } from 'preact';
import { useEffect, useRef } from 'preact/hooks';
import { Key } from '../parts/icons';
import { common, patchCommon } from '../state/router';
import { isRelative, parseTime, rangeLabel, resolve, toSecond, zoneLabel } from '../text/time';

export const pickerOpen = signal(false);

const QUICK: readonly [string, string][] = [
  ['-5m', 'Last 5 minutes'], ['-15m', 'Last 15 minutes'], ['-1h', 'Last hour'], ['-6h', 'Last 6 hours'],
  ['-24h', 'Last 24 hours'], ['-7d', 'Last 7 days'], ['-30d', 'Last 30 days'],
];

/** Moves the range by its own width; -1 = back, 1 = forward. */
export function shiftRange(direction: 1 | -1): void {
  const { from, to } = common.value;
  const now = Date.now();
  const a = resolve(from, now);
  const b = resolve(to, now);
  const width = Math.max(1, b - a);
  patchCommon({ from: String(a + direction * width), to: String(b + direction * width) }, 'push');
}

export function TimePicker(): JSX.Element {
  const { from, to, tz } = common.value;
  const box = useRef<HTMLDivElement>(null);
  const open = pickerOpen.value;

  useEffect(() => {
    if (!open) return;
    const outside = (e: Event): void => {
      if (box.current && !box.current.contains(e.target as Node)) pickerOpen.value = false;
    };
    addEventListener('pointerdown', outside);
    return () => removeEventListener('pointerdown', outside);
  }, [open]);

  const label = rangeLabel(from, to, tz);
  return (
    <div
      class="menu-box"
      ref={box}
      onKeyDown={(e) => {
        if (e.key !== 'Escape' || !open) return;
        e.preventDefault();
        e.stopPropagation();
        pickerOpen.value = false;
        box.current?.querySelector<HTMLElement>('button')?.focus();
      }}
    >
      <button type="button" class="button" aria-expanded={open} aria-haspopup="dialog" aria-label={`Time range: ${label}`} onClick={() => { pickerOpen.value = !open; }}>
        {label} <Key k="t" />
      </button>
      {open ? <Picker from={from} to={to} tz={tz} /> : null}
    </div>
  );
}

function Picker({ from, to, tz }: { from: string; to: string; tz: string }): JSX.Element {
  const now = Date.now();
  const words = (b: string): string => (isRelative(b) ? b : toSecond(Number(b), tz));
  const a = useSignal(words(from));
  const b = useSignal(words(to));
  const wrong = useSignal('');
  const first = useRef<HTMLButtonElement>(null);
  useEffect(() => first.current?.focus(), []);

  const choose = (f: string, t: string): void => {
    pickerOpen.value = false;
    patchCommon({ from: f, to: t }, 'push');
  };
  const apply = (event: Event): void => {
    event.preventDefault();
    const f = parseTime(a.value, tz);
    const t = parseTime(b.value, tz);
    if (f === null || t === null) wrong.value = `“${f === null ? a.value : b.value}” is not a time. Write 2026-11-22 03:12:41, an epoch number, -15m or now.`;
    else if (resolve(f, now) >= resolve(t, now)) wrong.value = 'The end must be after the start.';
    else choose(f, t);
  };
  return (
    <div class="menu picker" role="dialog" aria-label="Time range">
      <div class="picker-quick">
        {QUICK.map(([value, name], i) => (
          <button type="button" key={value} ref={i === 0 ? first : undefined} class="menu-item" aria-current={from === value && to === 'now' ? 'true' : undefined} onClick={() => choose(value, 'now')}>
            {name}
          </button>
        ))}
      </div>
      <form class="picker-exact" onSubmit={apply}>
        <label>From<input class="input" value={a.value} spellcheck={false} onInput={(e) => { a.value = e.currentTarget.value; }} /></label>
        <label>To<input class="input" value={b.value} spellcheck={false} onInput={(e) => { b.value = e.currentTarget.value; }} /></label>
        <p class="muted">Times are {zoneLabel(tz, now)} unless they name an offset.</p>
        {wrong.value ? <p class="wrong" role="alert">{wrong.value}</p> : null}
        <div class="row-end"><button type="submit" class="button primary">Apply</button></div>
      </form>
    </div>
  );
}
