// The few signs of the pages, as drawings: the fonts hold Latin letters only, and other fonts differ between machines.

import type { JSX } from 'preact';

const PATHS = {
  trace: 'M8 2.5v11M4 13.5V8a4 4 0 0 1 8 0v5.5',
  close: 'M4 4l8 8M12 4l-8 8',
  right: 'M6 3l5 5-5 5',
  down: 'M3 6l5 5 5-5',
  plus: 'M8 3v10M3 8h10',
  minus: 'M3 8h10',
  copy: 'M6 6h7v7H6zM3 10V3h7',
  column: 'M3 3h10v10H3zM8 3v10',
  share: 'M6.5 9.5l3-3M7 5l1.5-1.5a2.5 2.5 0 0 1 4 4L11 9M9 11l-1.5 1.5a2.5 2.5 0 0 1-4-4L5 7',
  dark: 'M13 9.5A5.5 5.5 0 0 1 6.5 3 5.5 5.5 0 1 0 13 9.5z',
  light: 'M8 5.2a2.8 2.8 0 1 0 0 5.6 2.8 2.8 0 0 0 0-5.6M8 1.5v1.3M8 13.2v1.3M1.5 8h1.3M13.2 8h1.3M3.4 3.4l.9.9M11.7 11.7l.9.9M3.4 12.6l.9-.9M11.7 4.3l.9-.9',
  enter: 'M13 4v5H4M7 6L4 9l3 3',
  warn: 'M8 2.5l6 11H2zM8 6.5v3.2M8 11.4v.6',
} as const;

export function Icon({ name, label }: { name: keyof typeof PATHS; label?: string }): JSX.Element {
  return (
    <svg class="icon" viewBox="0 0 16 16" role={label ? 'img' : undefined} aria-label={label} aria-hidden={label ? undefined : true}>
      <path d={PATHS[name]} />
    </svg>
  );
}

/** A key's name beside what it does. */
export function Key({ k }: { k: string }): JSX.Element {
  return <kbd aria-hidden="true">{k}</kbd>;
}
