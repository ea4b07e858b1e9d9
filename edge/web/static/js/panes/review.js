export default { id: "review", title: "Review", mount() {} };
