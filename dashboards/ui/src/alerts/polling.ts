// A resource that is asked for again and again while it is looked at.

import { type Signal, useSignal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import { type ApiError, explain, getJson } from '../api/client';

export interface Polled<T> {
  data: Signal<T | null>;
  error: Signal<ApiError | null>;
  /** When the last good answer came, epoch milliseconds; 0 = never. */
  at: Signal<number>;
  now(): void;
}

/** Asks at once and then every `everyMs`, but not while the page is hidden. The last good answer is kept through errors. */
export function usePolled<T>(path: string, everyMs: number): Polled<T> {
  const data = useSignal<T | null>(null);
  const error = useSignal<ApiError | null>(null);
  const at = useSignal(0);
  const kick = useSignal(0);
  useEffect(() => {
    const abort = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const ask = (): void => {
      clearTimeout(timer);
      if (document.hidden) return;
      getJson<T>(path, {}, abort.signal).then(
        (value) => {
          data.value = value;
          error.value = null;
          at.value = Date.now();
          timer = setTimeout(ask, everyMs);
        },
        (failure: unknown) => {
          if (abort.signal.aborted) return;
          error.value = explain(failure);
          timer = setTimeout(ask, everyMs);
        },
      );
    };
    ask();
    document.addEventListener('visibilitychange', ask);
    return () => {
      clearTimeout(timer);
      abort.abort();
      document.removeEventListener('visibilitychange', ask);
    };
  }, [path, kick.value]);
  return { data, error, at, now: () => { kick.value += 1; } };
}
