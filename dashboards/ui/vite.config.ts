import { defineConfig } from 'vite';

// `TRACELAKE` is the server that `npm run dev` forwards API calls to.
const server = process.env.TRACELAKE ?? 'http://127.0.0.1:7070';

export default defineConfig({
  base: './', // works behind any proxy prefix, since pages are one level deep
  oxc: { jsx: { runtime: 'automatic', importSource: 'preact' } },
  server: { proxy: { '/api': server } },
  build: {
    target: 'es2023',
    cssTarget: ['chrome123', 'firefox120', 'safari17.5'], // all of these know light-dark()
    assetsInlineLimit: 0, // the content policy allows no inline fonts or scripts
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
    rolldownOptions: {
      output: {
        entryFileNames: 'assets/[name]-[hash].js',
        chunkFileNames: 'assets/[name]-[hash].js',
        assetFileNames: 'assets/[name]-[hash][extname]',
      },
    },
  },
});
