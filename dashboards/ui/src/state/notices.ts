// Short messages at the foot of the page, read out by screen readers.

import { signal } from '@preact/signals';

export interface Notice {
  id: number;
  text: string;
  kind: 'info' | 'warn';
}

export const notices = signal<Notice[]>([]);
let last = 0;

/** Shows a message for some seconds; warnings stay until they are closed. */
export function notice(text: string, kind: Notice['kind'] = 'info'): void {
  last += 1;
  const id = last;
  notices.value = [...notices.value.filter((n) => n.text !== text), { id, text, kind }].slice(-3);
  if (kind === 'info') setTimeout(() => dismiss(id), 4000);
}

export function dismiss(id: number): void {
  notices.value = notices.value.filter((n) => n.id !== id);
}

/** Copies and says so; where the browser refuses, it says that instead. */
export async function copy(text: string, what: string): Promise<void> {
  try {
    await navigator.clipboard.writeText(text);
    notice(`Copied ${what}.`);
  } catch {
    notice(`The browser does not let this page copy (it needs HTTPS or localhost). ${what}: ${text.slice(0, 300)}`, 'warn');
  }
}
