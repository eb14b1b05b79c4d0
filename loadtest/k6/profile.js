// What every script shares: where to send, how hard, how long. The driver sets the
// environment; the defaults let a script be read by `k6 inspect` on its own.
export const gateway = __ENV.GATEWAY || 'http://127.0.0.1:8000';
export const rate = Number(__ENV.RATE || 10);
export const seconds = Number(__ENV.DURATION || 5);
export const p95 = Number(__ENV.P95_MS || 1000); // the threshold of the point, in milliseconds
export const connections = Number(__ENV.CONNECTIONS || 10);

// Iterations that could not begin when they were due, and checks that failed, fail a run.
export const strict = {
  checks: ['rate==1'],
  dropped_iterations: ['count==0'],
};

// steady begins `rate` iterations a second, whatever the gateway does.
export function steady(thresholds) {
  return {
    discardResponseBodies: false,
    scenarios: {
      steady: {
        executor: 'constant-arrival-rate',
        rate, timeUnit: '1s', duration: `${seconds}s`,
        preAllocatedVUs: connections, maxVUs: connections,
        gracefulStop: '15s',
      },
    },
    thresholds: Object.assign({}, strict, thresholds),
  };
}
