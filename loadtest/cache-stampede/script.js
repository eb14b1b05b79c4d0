// Every iteration asks for one answer that nobody has yet, 20 times at once; the service
// takes 200 ms for it. All must get the same bytes; the driver holds the service to one
// request a path.
import http from 'k6/http';
import { check } from 'k6';
import exec from 'k6/execution';
import { gateway, steady } from '../k6/profile.js';

const herd = 20;

export const options = Object.assign(steady(), { batch: herd, batchPerHost: herd });

export default function () {
  const n = exec.scenario.iterationInTest;
  const url = `${gateway}/cacheable/${__ENV.RATE}-${exec.scenario.startTime}-${n}?delay=200`;
  const answers = http.batch(new Array(herd).fill(['GET', url]));
  check(answers, {
    'all are 200': (all) => all.every((r) => r.status === 200),
    'all have 1024 bytes': (all) => all.every((r) => r.body !== null && Number(r.headers['Content-Length']) === 1024),
    'all are the same': (all) => all.every((r) => r.body === all[0].body),
    'one missed, or waited with the one who did': (all) => all.every((r) => ['Miss', 'Hit'].includes(r.headers['X-Cache-Status'])),
  });
}
