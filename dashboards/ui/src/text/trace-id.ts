// Trace IDs in the spellings people paste. The server reads them all; the page only needs to know that a text is one.

const FORMS: readonly RegExp[] = [
  /\b1-[0-9a-f]{8}-[0-9a-f]{24}\b/i, // X-Ray, alone or inside Root=…;Parent=…
  /\b[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}\b/i, // W3C traceparent
  /\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b/i, // 16 bytes written as a UUID
  /\b[0-9a-f]{32}\b/i,
  /^[0-9a-f]{16}$/i, // 64-bit
  /^\d{15,20}$/, // 64-bit decimal, as Datadog writes it
];

/** The trace ID in a pasted text, or null. */
export function findTraceId(text: string): string | null {
  const t = text.trim();
  for (const form of FORMS) {
    const m = form.exec(t);
    if (m) return m[1] ?? m[0];
  }
  return null;
}

/** `1-5f84c7a1-d2e94c0b9f3a…` of 32 hex digits. */
export function xraySpelling(hex: string): string {
  return /^[0-9a-f]{32}$/i.test(hex) ? `1-${hex.slice(0, 8)}-${hex.slice(8)}` : hex;
}
