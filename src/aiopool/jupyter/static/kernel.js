// Whether the kernel of a widget is still there.

const ENDS = ["restarting", "autorestarting", "terminating", "dead"];

/** Call `ended` when the front end says that the kernel has ended; many do not say it. Returns how to stop that. */
export function whenEnded(model, ended) {
  const manager = model.widget_manager;
  const session = manager?.context?.sessionContext ?? manager?.kernel;
  const turn = (_, status) => {
    if (ENDS.includes(status)) ended();
  };
  const swap = (_, { oldValue: before, newValue: after }) => {
    if (before && before.id !== after?.id) ended();
  };
  // The event does not say which way, and what is given to a script is not the model itself.
  const look = async () => {
    try {
      const whole = await manager?.get_model?.(model.get("page")?.id);
      if (whole?.comm_live === false) ended();
    } catch {
      // The widget was closed meanwhile, which says nothing of the kernel.
    }
  };
  session?.statusChanged?.connect(turn);
  session?.kernelChanged?.connect(swap);
  model.on("comm_live_update", look);
  return () => {
    session?.statusChanged?.disconnect(turn);
    session?.kernelChanged?.disconnect(swap);
    model.off("comm_live_update", look);
  };
}
