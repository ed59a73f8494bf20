// The native dialog, which traps the focus and closes on Esc by itself.

import type { Signal } from '@preact/signals';
import type { ComponentChildren, JSX } from 'preact';
import { useEffect, useRef } from 'preact/hooks';

export function Dialog({ open, label, class: name, children }: { open: Signal<boolean>; label: string; class: string; children: ComponentChildren }): JSX.Element | null {
  const ref = useRef<HTMLDialogElement>(null);
  const shown = open.value;
  useEffect(() => {
    if (shown && ref.current && !ref.current.open) ref.current.showModal();
  }, [shown]);
  if (!shown) return null;
  return (
    <dialog
      ref={ref}
      class={`dialog ${name}`}
      aria-label={label}
      onClose={() => { open.value = false; }}
      onClick={(e) => {
        if (e.target === ref.current) ref.current?.close();
      }}
    >
      {children}
    </dialog>
  );
}
