// A stream of six events, 100 ms apart: the header must come at once (it is the latency
// that is judged), the end after half a second, and all events in order.
import http from 'k6/http';
import { check } from 'k6';
import { gateway, steady } from '../k6/profile.js';

const events = 6;
const want = Array.from({ length: events }, (_, i) => `id: ${i}\ndata: event ${i} of ${events}\n\n`).join('');

export const options = steady();

export default function () {
  const r = http.get(`${gateway}/events?n=${events}&every=100`);
  check(r, {
    '200': (r) => r.status === 200,
    'is an event stream': (r) => (r.headers['Content-Type'] || '').startsWith('text/event-stream'),
    'all events, in order': (r) => r.body === want,
    'was streamed: the rest came after the beginning': (r) => r.timings.receiving > 350,
  });
}
