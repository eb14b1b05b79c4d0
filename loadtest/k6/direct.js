// How much k6 and the service can do without the gateway: closed-loop, no thresholds.
import http from 'k6/http';
import { check } from 'k6';
import { gateway, connections, seconds } from './profile.js';

export const options = {
  scenarios: {
    direct: { executor: 'constant-vus', vus: Math.min(connections, 32), duration: `${seconds}s` },
  },
};

export default function () {
  const r = http.get(`${gateway}/bytes/1024`);
  check(r, { 'status is 200': (r) => r.status === 200 });
}
