; A robot with some grippers carries balls from room to room.
(define (domain gripper-strips)
  (:requirements :strips)
  (:predicates
    (room ?place) (ball ?thing) (gripper ?hand)
    (at-robby ?place)
    (at ?thing ?place)
    (free ?hand)
    (carry ?thing ?hand))

  (:action move
    :parameters (?from ?to)
    :precondition (and (room ?from) (room ?to) (at-robby ?from))
    :effect (and (not (at-robby ?from)) (at-robby ?to)))

  (:action pick
    :parameters (?thing ?place ?hand)
    :precondition (and (ball ?thing) (room ?place) (gripper ?hand)
                       (at ?thing ?place) (at-robby ?place) (free ?hand))
    :effect (and (carry ?thing ?hand) (not (at ?thing ?place)) (not (free ?hand))))

  (:action drop
    :parameters (?thing ?place ?hand)
    :precondition (and (ball ?thing) (room ?place) (gripper ?hand)
                       (carry ?thing ?hand) (at-robby ?place))
    :effect (and (at ?thing ?place) (free ?hand) (not (carry ?thing ?hand)))))
