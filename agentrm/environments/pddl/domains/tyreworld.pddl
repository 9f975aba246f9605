; Flat wheels are replaced by the spare ones in the boot; what takes a tool needs it in hand.
(define (domain tyreworld)
  (:requirements :strips :typing)
  (:types
    container hub thing - object
    tool wheel nut - thing)
  (:constants wrench jack pump - tool)
  (:predicates
    (isopen ?box - container)
    (closed ?box - container)
    (unlocked ?box - container)
    (have ?thing - thing)
    (in ?thing - thing ?box - container)
    (loose ?nut - nut ?hub - hub)
    (tight ?nut - nut ?hub - hub)
    (on-ground ?hub - hub)
    (not-on-ground ?hub - hub)
    (fastened ?hub - hub)
    (unfastened ?hub - hub)
    (free ?hub - hub)
    (on ?wheel - wheel ?hub - hub)
    (inflated ?wheel - wheel)
    (not-inflated ?wheel - wheel)
    (intact ?wheel - wheel))

  (:action open
    :parameters (?box - container)
    :precondition (and (unlocked ?box) (closed ?box))
    :effect (and (isopen ?box) (not (closed ?box))))

  (:action close
    :parameters (?box - container)
    :precondition (isopen ?box)
    :effect (and (closed ?box) (not (isopen ?box))))

  (:action fetch
    :parameters (?thing - thing ?box - container)
    :precondition (and (in ?thing ?box) (isopen ?box))
    :effect (and (have ?thing) (not (in ?thing ?box))))

  (:action put-away
    :parameters (?thing - thing ?box - container)
    :precondition (and (have ?thing) (isopen ?box))
    :effect (and (in ?thing ?box) (not (have ?thing))))

  (:action loosen
    :parameters (?nut - nut ?hub - hub)
    :precondition (and (have wrench) (tight ?nut ?hub) (on-ground ?hub))
    :effect (and (loose ?nut ?hub) (not (tight ?nut ?hub))))

  (:action tighten
    :parameters (?nut - nut ?hub - hub)
    :precondition (and (have wrench) (loose ?nut ?hub) (on-ground ?hub))
    :effect (and (tight ?nut ?hub) (not (loose ?nut ?hub))))

  (:action jack-up
    :parameters (?hub - hub)
    :precondition (and (on-ground ?hub) (have jack))
    :effect (and (not-on-ground ?hub) (not (on-ground ?hub)) (not (have jack))))

  (:action jack-down
    :parameters (?hub - hub)
    :precondition (not-on-ground ?hub)
    :effect (and (on-ground ?hub) (have jack) (not (not-on-ground ?hub))))

  (:action undo
    :parameters (?nut - nut ?hub - hub)
    :precondition (and (not-on-ground ?hub) (fastened ?hub) (have wrench) (loose ?nut ?hub))
    :effect (and (have ?nut) (unfastened ?hub) (not (fastened ?hub)) (not (loose ?nut ?hub))))

  (:action do-up
    :parameters (?nut - nut ?hub - hub)
    :precondition (and (have wrench) (unfastened ?hub) (not-on-ground ?hub) (have ?nut))
    :effect (and (loose ?nut ?hub) (fastened ?hub) (not (unfastened ?hub)) (not (have ?nut))))

  (:action remove-wheel
    :parameters (?wheel - wheel ?hub - hub)
    :precondition (and (not-on-ground ?hub) (on ?wheel ?hub) (unfastened ?hub))
    :effect (and (have ?wheel) (free ?hub) (not (on ?wheel ?hub))))

  (:action put-on-wheel
    :parameters (?wheel - wheel ?hub - hub)
    :precondition (and (have ?wheel) (free ?hub) (unfastened ?hub) (not-on-ground ?hub))
    :effect (and (on ?wheel ?hub) (not (free ?hub)) (not (have ?wheel))))

  (:action inflate
    :parameters (?wheel - wheel)
    :precondition (and (have pump) (not-inflated ?wheel) (intact ?wheel))
    :effect (and (inflated ?wheel) (not (not-inflated ?wheel)))))
