// A third of the duration at the rate, then ten times as much within a tenth of it, held
// for a fifth, and back; the last third must be as quick as the first.
import http from 'k6/http';
import { check } from 'k6';
import { Trend } from 'k6/metrics';
import exec from 'k6/execution';
import { gateway, rate, seconds, connections, p95, strict } from '../k6/profile.js';

const part = (share) => `${Math.max(Math.round(seconds * share * 1000), 100)}ms`;
const afterwards = new Trend('latency_after_the_spike', true);

export const options = {
  scenarios: {
    spike: {
      executor: 'ramping-arrival-rate',
      startRate: rate, timeUnit: '1s',
      preAllocatedVUs: connections, maxVUs: connections,
      stages: [
        { target: rate, duration: part(0.3) },
        { target: 10 * rate, duration: part(0.1) },
        { target: 10 * rate, duration: part(0.2) },
        { target: rate, duration: part(0.05) },
        { target: rate, duration: part(0.35) },
      ],
    },
  },
  thresholds: Object.assign({ latency_after_the_spike: [`p(95)<${p95}`] }, strict),
};

export default function () {
  const r = http.get(`${gateway}/bytes/1024`);
  // A tenth of the duration is given for what the wave left waiting.
  if (Date.now() - exec.scenario.startTime > seconds * 750) afterwards.add(r.timings.duration);
  check(r, {
    '200': (r) => r.status === 200,
    '1024 bytes': (r) => Number(r.headers['Content-Length']) === 1024,
  });
}
