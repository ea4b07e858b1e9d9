export default { id: "health", title: "Health", mount() {} };
