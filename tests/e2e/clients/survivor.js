// Hears topics through whatever happens to its connection, and speaks on one of them until it is told to stop.
function survive(connect, url, topics, own, options) {
  const report = { heard: {}, gaps: [], opened: [], published: [], unknown: [], errors: [], stopped: false };
  const gate = connect(url, { backoff: { base: 20, cap: 200 }, ...options });
  gate.addEventListener('state', ({ detail }) => {
    if (detail.state === 'open') report.opened.push([detail.transport, detail.reason]);
  });
  for (const topic of topics) {
    const heard = [];
    report.heard[topic] = heard;
    gate.subscribe(topic, {
      since: '0',
      onmessage: ({ offset, data }) => heard.push([offset, data]),
      ongap: (gap) => report.gaps.push(gap),
      onerror: ({ message }) => report.errors.push(message),
    });
  }
  const speak = async () => {
    for (let number = 1; !report.stopped; number += 1) {
      try {
        const { offset } = await gate.publish(own, `${number}`);
        report.published.push([offset, `${number}`]);
      } catch (error) {
        if (error.code === 'unknown-outcome') report.unknown.push(`${number}`);
        else report.errors.push(String(error));
      }
      await new Promise((wake) => setTimeout(wake, 2));
    }
  };
  report.end = speak().then(() => { report.ended = true; });
  report.close = () => gate.close();
  return report;
}
