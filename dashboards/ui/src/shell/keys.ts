// The keyboard: pages add their keys while they are shown; one listener serves all, and the ? sheet lists what is there.

import { signal } from '@preact/signals';
import { useEffect, useRef } from 'preact/hooks';
import { prefs } from '../state/prefs';

export interface KeyAction {
  /** `j`, `Enter`, `g t` (two keys in a row), `mod+k`. */
  key: string;
  does: string;
  run(event: KeyboardEvent): void;
}

interface Group {
  title: string;
  actions: KeyAction[];
}

export const groups = signal<Group[]>([]);
let pendingG = 0;

/** Binds keys while the calling component is in the page. */
export function useKeys(title: string, actions: KeyAction[]): void {
  const latest = useRef(actions);
  latest.current = actions;
  useEffect(() => {
    const group: Group = {
      title,
      actions: latest.current.map((a, i) => ({ ...a, run: (e) => latest.current[i]?.run(e) })),
    };
    groups.value = [...groups.peek(), group];
    return () => {
      groups.value = groups.peek().filter((g) => g !== group);
    };
  }, [title]);
}

const inField = (target: EventTarget | null): boolean =>
  target instanceof Element && target.closest('input, textarea, select, [contenteditable="true"]') !== null;

/** Keys that a focused control uses itself. */
const ownedByControl = (event: KeyboardEvent): boolean =>
  (event.key === 'Enter' || event.key === ' ') && event.target instanceof Element && event.target.closest('a, button, summary, [role="slider"]') !== null;

export function startKeys(): void {
  addEventListener('keydown', (event) => {
    if (event.defaultPrevented || event.isComposing) return;
    const mod = event.metaKey || event.ctrlKey;
    let pressed = mod ? `mod+${event.key.toLowerCase()}` : event.key;
    if (!mod) {
      if (event.altKey || inField(event.target) || ownedByControl(event)) return;
      if (document.querySelector('dialog[open]')) return;
      const letterKey = pressed.length === 1;
      if (letterKey && !prefs.value.letterKeys) return;
      if (pendingG && event.timeStamp - pendingG < 1500 && letterKey) pressed = `g ${pressed}`;
      pendingG = 0;
      if (pressed === 'g') {
        pendingG = event.timeStamp;
        return;
      }
    }
    for (const group of [...groups.value].reverse()) {
      const action = group.actions.find((a) => a.key === pressed);
      if (action) {
        event.preventDefault();
        action.run(event);
        return;
      }
    }
  });
}
